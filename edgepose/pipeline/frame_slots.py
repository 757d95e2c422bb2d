"""The slots between cameras and network: one frame per camera, the newest wins, every loss is counted."""

import threading
import time
from collections.abc import Callable, Mapping
from fractions import Fraction

import msgspec

from edgepose.pipeline.stages import PreparedFrame

_FULL_COST = Fraction(1)
_REMEMBERED = 256  # cameras; configurations change


class QueuedFrame(msgspec.Struct, frozen=True, eq=False):
    """A frame on its way to the network and through postprocessing.

    Attributes:
        prepared: the frame and the input made from it.
        live: False for frames of files, of which none may be lost.
        since_ns: monotonic time at which it was queued, nanoseconds.
    """

    prepared: PreparedFrame
    live: bool
    since_ns: int

    def stale(self, after_s: float) -> bool:
        """Return whether a live frame is older than `after_s`: it waited, the network was slow, or the process was suspended."""
        return self.live and time.monotonic_ns() - self.since_ns > int(after_s * 1e9)


class LatestFrameSlots:
    """The frames that wait for the network: at most one of each camera.

    Cameras take turns, and those with a higher priority have more of them: each turn of a camera costs it the inverse of its priority, and
    the camera that has spent least is next (stride scheduling, C. Waldspurger and W. Weihl 1995). No camera saves turns while it has no
    frame.
    """

    def __init__(self, stale_after_s: float, dropped: Callable[[str, str], None], priorities: Mapping[str, int] | None = None) -> None:
        """
        Args:
            stale_after_s: a live frame that waited longer is dropped.
            dropped: receives camera and cause (`superseded`, `stale`) of each frame that is lost.
            priorities: of the cameras; 1 where one is absent.

        Attributes:
            every: one live frame of so many is wanted.
        """
        self.every = 1
        self.configure(stale_after_s, priorities)
        self._dropped = dropped
        self._queued: dict[str, QueuedFrame] = {}  # in the order in which they came
        self._spent: dict[str, Fraction] = {}  # by camera, exact: turns would drift apart by rounding
        self._now = Fraction(0)  # what the camera that was served last had spent before
        self._changed = threading.Condition()

    def configure(self, stale_after_s: float, priorities: Mapping[str, int] | None = None) -> None:
        """Apply other settings from now on."""
        self._stale_after_s = stale_after_s
        self._costs = {camera: Fraction(1, priority) for camera, priority in (priorities or {}).items()}

    def put(self, prepared: PreparedFrame) -> bool:
        """Queue a live frame, in place of the camera's frame that was not taken yet; return whether there was one."""
        camera = prepared.frame.camera
        with self._changed:
            superseded = camera in self._queued
            self._queued[camera] = QueuedFrame(prepared, True, time.monotonic_ns())  # keeps its turn
            self._changed.notify_all()
        if superseded:
            self._dropped(camera, "superseded")
        return superseded

    def put_when_free(self, prepared: PreparedFrame, timeout_s: float) -> bool:
        """Queue a frame of a file once the one before was taken; return False if the time runs out first."""
        camera = prepared.frame.camera
        with self._changed:
            if not self._changed.wait_for(lambda: camera not in self._queued, timeout_s):
                return False
            self._queued[camera] = QueuedFrame(prepared, False, time.monotonic_ns())
            self._changed.notify_all()
        return True

    def live_frame_waits(self) -> bool:
        """Return whether a frame waits that is lost if it waits too long."""
        with self._changed:
            return any(queued.live for queued in self._queued.values())

    def take(self, timeout_s: float) -> QueuedFrame | None:
        """Return the frame of the camera whose turn it is, None where no camera queued one in time."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._queued, max(0.0, deadline_s - time.monotonic())):
                    return None
                queued = self._queued.pop(self._next())
                self._changed.notify_all()
            if not queued.stale(self._stale_after_s):
                return queued
            self._dropped(queued.prepared.frame.camera, "stale")

    def _next(self) -> str:
        """Return the camera whose turn it is, and count the turn; of several, the one whose frame came first."""
        camera = next(iter(self._queued))
        if len(self._queued) > 1:
            camera = min(self._queued, key=lambda name: self._spent.get(name, self._now))
        before = max(self._spent.get(camera, self._now), self._now)
        self._now = before
        self._spent[camera] = before + self._costs.get(camera, _FULL_COST)
        if len(self._spent) > _REMEMBERED:
            self._spent = {name: spent for name, spent in self._spent.items() if spent > self._now}
        return camera
