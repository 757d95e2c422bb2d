"""Hands the people of each frame to the broker and to files; a slow disk never holds up a live camera."""

import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from edgepose.daemon.metrics import Metrics
from edgepose.errors import OutputError
from edgepose.frame import Frame
from edgepose.output.messages import PosesMessage, poses_message
from edgepose.person import Person

_log = logging.getLogger(__name__)

_TURN_S = 0.2
_WAITING_LIMIT = 4  # records that wait for the disk; they hold pictures, so this is memory


class Sink(Protocol):
    """Something that takes frame after frame: a file, a video, a folder."""

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage) -> None:
        """Adds one frame; OutputError where that cannot be."""
        ...

    def close(self) -> None:
        """Completes what was written."""
        ...


class Publisher(Protocol):
    """What delivery needs of `edgepose.output.mqtt.MqttPublisher`."""

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        """Hands over a message; never blocks."""
        ...


class Delivery:
    """Publishes each frame's people and queues them for the files.

    Live frames that the files cannot keep up with are lost to the files alone, and counted; frames of files wait.

    Attributes:
        failure: the error that ended the writing of files, where one did; publishing goes on.
    """

    def __init__(self, publisher: Publisher | None, sinks: Sequence[Sink], metrics: Metrics) -> None:
        self._publisher = publisher
        self._sinks = sinks
        self._metrics = metrics
        self._waiting: queue.Queue[tuple[Frame, list[Person], PosesMessage] | None] = queue.Queue(maxsize=_WAITING_LIMIT)
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self.failure: OutputError | None = None
        if sinks:
            self._thread.start()

    def deliver(self, frame: Frame, people: list[Person], live: bool) -> None:
        """Takes the people of one frame; blocks only for frames of files, and only until the files have room."""
        message = poses_message(frame, people, time.time_ns())
        if self._publisher is not None:
            self._publisher.publish_poses(frame.camera, message)
        if not self._sinks:
            return
        while self._thread.is_alive():
            try:
                self._waiting.put((frame, people, message), timeout=0 if live else _TURN_S)
            except queue.Full:
                if not live:
                    continue
                self._metrics.dropped(frame.camera, "writer_busy")
            return
        self._metrics.dropped(frame.camera, "writer_failed")

    def close(self, timeout_s: float) -> None:
        """Completes the files; frames that could not be written in time are told in the log."""
        if not self._thread.is_alive():
            return
        deadline = time.monotonic() + timeout_s
        with suppress(queue.Full):  # told below
            self._waiting.put(None, timeout=timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            _log.error(
                "files are not complete: writing them took longer than %.1f s, %d frames are missing", timeout_s, self._waiting.qsize()
            )

    def _write(self) -> None:
        try:
            while (record := self._waiting.get()) is not None:
                for sink in self._sinks:
                    sink.write(*record)
        except OutputError as error:
            self._give_up(error)
        except BrokenPipeError:
            self._give_up(OutputError("Cannot write to a pipe: its reader has gone"))
        except Exception as error:
            self._give_up(OutputError(f"files: unexpected {type(error).__name__}: {error}"))
        for sink in self._sinks:
            try:
                sink.close()
            except OutputError as error:
                self._give_up(error)

    def _give_up(self, error: OutputError) -> None:
        if self.failure is None:
            _log.error("%s; nothing more is written to files", error)
            self.failure = error
