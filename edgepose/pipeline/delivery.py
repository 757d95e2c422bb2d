"""Delivery of the result of each frame to the broker and to files; a slow disk never delays a live camera."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from edgepose.config.schema import Profile
from edgepose.errors import OutputError
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.occupancy_states import OccupancyStates
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import EventMessage, PosesMessage
from edgepose.pipeline.file_writer import FileWriter, Sink
from edgepose.pipeline.stages import FrameResult
from edgepose.telemetry.metrics import Metrics

__all__ = ["Delivery", "Publisher", "Sink"]


class Publisher(Protocol):
    """The part of `edgepose.mqtt.publisher.MqttPublisher` that delivery needs."""

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        """Publish the poses of one frame; never blocks."""
        ...

    def publish(self, address: str, payload: EventMessage, qos: Literal[0, 1]) -> None:
        """Publish a message that waits for the broker with QoS 1; never blocks."""
        ...


class Webhook(Protocol):
    """The part of `edgepose.webhook.sender.WebhookSender` that delivery needs."""

    def take(self, event: EventMessage) -> None:
        """Post an event soon; never blocks."""
        ...


class Onlooker(Protocol):
    """A part that looks on while results are delivered, such as the live page; it returns at once, from the postprocess thread."""

    def take_poses(self, result: FrameResult, poses: PosesMessage) -> None:
        """Take the newest frame of a camera, with what is published of it."""
        ...

    def take_event(self, event: EventMessage) -> None:
        """Take an event."""
        ...


class Delivery:
    """The delivery of the people of each frame to the publisher, the webhook and the files.

    Live frames that the files cannot keep up with are missing only in the files, and counted; frames of files wait.
    """

    def __init__(
        self,
        publisher: Publisher | None,
        sinks: Sequence[Sink],
        metrics: Metrics,
        reopen: Callable[[], list[Sink]] | None = None,
        *,
        occupancy: OccupancyStates | None = None,
        webhook: Webhook | None = None,
        profile: Profile = "full",
    ) -> None:
        """
        Args:
            publisher: None publishes nothing.
            sinks: open.
            metrics: counts events and lost frames.
            reopen: opens the sinks again after they have failed; None where a failure is final.
            occupancy: publishes how many people there are; None publishes that nowhere.
            webhook: receives the events as well.
            profile: what messages say about a person.

        Attributes:
            webhook, profile: as above; may be replaced.
            onlooker: looks on; None where nobody does.
        """
        self.profile: Profile = profile
        self.webhook = webhook
        self.onlooker: Onlooker | None = None
        self._occupancy = occupancy
        self._publisher = publisher
        self._metrics = metrics
        self._writer = self._writing(sinks, reopen)

    @property
    def writer(self) -> FileWriter | None:
        """The thread that writes the files, None where there are none."""
        return self._writer

    @property
    def failure(self) -> OutputError | None:
        """The error that keeps the files from being written, or None; publishing continues."""
        return self._writer.error if self._writer is not None else None

    def deliver(self, result: FrameResult) -> None:
        """Deliver the result of one frame; blocks only for frames of files, and only until the files have room."""
        frame, people, profile = result.frame, result.people, self.profile
        if not result.stale:
            poses = poses_message(frame, people, result.at_ns, profile, result.aircraft)
            if self._publisher is not None:
                self._publisher.publish_poses(frame.camera, poses)
            if (onlooker := self.onlooker) is not None:
                onlooker.take_poses(result, poses)
            if self._writer is not None:
                self._writer.take(frame, people, poses, result.looks, live=result.live)
        for event in result.events:
            message = event_message(event, profile)
            self._metrics.happened(frame.camera, event.kind)
            if self._publisher is not None:
                self._publisher.publish(topic_address("events", frame.camera), message, qos=1)
            if (webhook := self.webhook) is not None:
                webhook.take(message)
            if (onlooker := self.onlooker) is not None:
                onlooker.take_event(message)
        if self._occupancy is not None and result.occupancy is not None:
            self._occupancy.update(frame.camera, result.occupancy, frame.captured_at_ns)

    def exchange(self, sinks: Sequence[Sink], reopen: Callable[[], list[Sink]] | None, timeout_s: float) -> None:
        """Continue with other files; the former ones are completed."""
        before, self._writer = self._writer, self._writing(sinks, reopen)
        if before is not None:
            before.close(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Complete the files; the log counts frames that could not be written in time."""
        if self._writer is not None:
            self._writer.close(timeout_s)

    def _writing(self, sinks: Sequence[Sink], reopen: Callable[[], list[Sink]] | None) -> FileWriter | None:
        if not sinks:
            return None
        writer = FileWriter(sinks, self._metrics, reopen)
        writer.start()
        return writer
