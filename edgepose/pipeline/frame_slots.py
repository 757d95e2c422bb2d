"""Between the cameras and the engine: one frame a camera, the newest wins, every loss is counted."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgepose.pipeline.stages import PreparedFrame


@dataclass(frozen=True, slots=True, eq=False)
class QueuedFrame:
    """A frame on its way to the engine.

    Attributes:
        prepared: the picture, and the engine's input made of it.
        live: False for files, of which no frame may be lost.
        since_ns: monotonic time at which it was put down.
    """

    prepared: PreparedFrame
    live: bool
    since_ns: int

    def stale(self, after_s: float) -> bool:
        """Whether it has been on its way for too long: waiting, in the engine, or while the whole process stood still."""
        return self.live and time.monotonic_ns() - self.since_ns > int(after_s * 1e9)


class LatestFrameSlots:
    """Holds at most one frame of each camera; cameras take turns."""

    def __init__(self, stale_after_s: float, dropped: Callable[[str, str], None]) -> None:
        """
        Args:
            stale_after_s: a live frame that waited longer is not worth the engine's time.
            dropped: is told camera and cause (`superseded`, `stale`) of each frame that is lost.
        """
        self.stale_after(stale_after_s)
        self._dropped = dropped
        self._queued: dict[str, QueuedFrame] = {}  # in the order of taking
        self._changed = threading.Condition()

    def stale_after(self, seconds: float) -> None:
        """From now on, a live frame that waited longer is not worth the engine's time."""
        self._stale_after_s = seconds

    def put(self, prepared: PreparedFrame) -> None:
        """Leaves a live frame, in place of the one that nobody took."""
        camera = prepared.frame.camera
        with self._changed:
            superseded = camera in self._queued
            self._queued[camera] = QueuedFrame(prepared, True, time.monotonic_ns())  # keeps its turn
            self._changed.notify_all()
        if superseded:
            self._dropped(camera, "superseded")

    def put_when_free(self, prepared: PreparedFrame, timeout_s: float) -> bool:
        """Leaves a frame of a file once the one before was taken; False when the time ran out first."""
        camera = prepared.frame.camera
        with self._changed:
            if not self._changed.wait_for(lambda: camera not in self._queued, timeout_s):
                return False
            self._queued[camera] = QueuedFrame(prepared, False, time.monotonic_ns())
            self._changed.notify_all()
        return True

    def take(self, timeout_s: float) -> QueuedFrame | None:
        """The frame of the camera whose turn it is, or None when no camera left one in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._queued, max(0.0, deadline - time.monotonic())):
                    return None
                queued = self._queued.pop(next(iter(self._queued)))
                self._changed.notify_all()
            if not queued.stale(self._stale_after_s):
                return queued
            self._dropped(queued.prepared.frame.camera, "stale")

    def empty(self) -> bool:
        """Whether no frame is waiting."""
        with self._changed:
            return not self._queued
