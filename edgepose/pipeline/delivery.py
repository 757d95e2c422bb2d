"""Hands the people of each frame to the broker and to files; a slow disk never holds up a live camera."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from edgepose.errors import OutputError
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import EventMessage, PosesMessage
from edgepose.pipeline.file_writer import FileWriter, Sink
from edgepose.pipeline.stages import FrameResult
from edgepose.telemetry.metrics import Metrics

__all__ = ["Delivery", "Publisher", "Sink"]


class Publisher(Protocol):
    """What delivery needs of `edgepose.daemon.link.Link`."""

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        """Hands over a message; never blocks."""
        ...

    def publish(self, address: str, payload: EventMessage, qos: Literal[0, 1]) -> None:
        """Hands over a message that waits for the broker with QoS 1; never blocks."""
        ...


class Delivery:
    """Publishes each frame's people and queues them for the files.

    Live frames that the files cannot keep up with are lost to the files alone, and counted; frames of files wait.
    """

    def __init__(
        self, publisher: Publisher | None, sinks: Sequence[Sink], metrics: Metrics, reopen: Callable[[], list[Sink]] | None = None
    ) -> None:
        """
        Args:
            sinks: open.
            reopen: opens them again after they have failed; None where a failure is for good.
        """
        self._publisher = publisher
        self._metrics = metrics
        self._writer = self._writing(sinks, reopen)

    @property
    def writer(self) -> FileWriter | None:
        """What writes the files, None where there are none."""
        return self._writer

    @property
    def failure(self) -> OutputError | None:
        """The error that keeps the files from being written, where one does; publishing goes on."""
        return self._writer.error if self._writer is not None else None

    def deliver(self, outcome: FrameResult) -> None:
        """Takes what came of one frame; blocks only for frames of files, and only until the files have room."""
        frame, people = outcome.frame, outcome.people
        if not outcome.stale:
            message = poses_message(frame, people, outcome.at_ns)
            if self._publisher is not None:
                self._publisher.publish_poses(frame.camera, message)
            if self._writer is not None:
                self._writer.take(frame, people, message, live=outcome.live)
        for event in outcome.events:
            self._metrics.happened(frame.camera, event.kind)
            if self._publisher is not None:
                self._publisher.publish(topic_address("events", frame.camera), event_message(event), qos=1)

    def exchange(self, sinks: Sequence[Sink], reopen: Callable[[], list[Sink]] | None, timeout_s: float) -> None:
        """Goes on with other files; those before are completed."""
        before, self._writer = self._writer, self._writing(sinks, reopen)
        if before is not None:
            before.close(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Completes the files; frames that could not be written in time are told in the log."""
        if self._writer is not None:
            self._writer.close(timeout_s)

    def _writing(self, sinks: Sequence[Sink], reopen: Callable[[], list[Sink]] | None) -> FileWriter | None:
        if not sinks:
            return None
        writer = FileWriter(sinks, self._metrics, reopen)
        writer.start()
        return writer
