"""The state machine of one camera's connection: pure, time passed in.

::

    connecting ──frame──▶ streaming ──lost──▶ stalled | failed ──back-off──▶ (opened again) ──frame──▶ streaming
        ▲                     │
        └──────resume── paused ◀── on command, or at the end of a file
"""

import math
from collections.abc import Callable

import msgspec

from edgepose.errors import EndOfStream, SourceError
from edgepose.messages.camera_state import CameraState, State
from edgepose.supervision.backoff import FullJitterBackoff

_RELEASE_S = 0.25  # after a timeout, the port or device of the attempt is released only then


class Open(msgspec.Struct, frozen=True):
    """Open the source and read it until it is lost."""

    epoch: int


class Wait(msgspec.Struct, frozen=True):
    """Wait for the next attempt, at most so many seconds."""

    seconds: float


class Pause(msgspec.Struct, frozen=True):
    """Wait until the pause is over."""


Action = Open | Wait | Pause


class CameraConnection:
    """The state machine of one camera's source: when it is opened, what its loss means, and what state is published.

    A lost source is reopened without end, after waits that grow with full jitter. Each opening that gave frames makes an
    epoch. A source for one run only (`retry=False`) fails permanently instead, and the end of a file ends the connection unless it loops.

    Attributes:
        state: the last published one.
        epoch: of the next frames.
        reconnects: number of times that frames arrived again after a loss.
        failure: error that ended the connection permanently, None otherwise.
    """

    def __init__(
        self,
        camera: str,
        backoff: FullJitterBackoff,
        changed: Callable[[CameraState, CameraState], None],
        *,
        settled_after_s: float,
        loop: bool = False,
        retry: bool = True,
        epoch: int = 0,
        reconnects: int = 0,
    ) -> None:
        """
        Args:
            camera: its name.
            backoff: gives the waits between attempts.
            changed: receives the old and the new state at each change.
            settled_after_s: age of a stream at which the backoff restarts.
            loop: whether a file restarts at its end.
            retry: whether a lost source is reopened.
            epoch, reconnects: to continue from.
        """
        self.state = CameraState(camera, "connecting", None, None, epoch)
        self.epoch = epoch
        self.reconnects = reconnects
        self.failure: SourceError | None = None
        self._camera = camera
        self._backoff = backoff
        self._changed = changed
        self._settled_after_s = settled_after_s
        self._loop = loop
        self._retry = retry
        self._ended = False
        self._announce = False  # whether the next attempt is published as `connecting` although there was no pause
        self._lost_before = False
        self._attempted_s = -math.inf
        self._retry_at_s = -math.inf
        self._first_frame_s: float | None = None  # of the current stream

    def next(self, now_s: float, *, paused: bool) -> Action | None:
        """Return what to do now, None where there is nothing more to do.

        Args:
            now_s: monotonic time, seconds.
            paused: whether a command asks for a pause.
        """
        if self._ended:
            return None
        if paused:
            self._retry_at_s = -math.inf  # after a pause, nothing waits
            self._become("paused", "command", f"camera {self._camera}: paused on command", self.epoch)
            return Pause()
        if now_s < self._retry_at_s:
            return Wait(self._retry_at_s - now_s)
        if self._announce or self.state.state in ("connecting", "paused"):
            self._become("connecting", None, None, self.epoch)
        self._announce = False
        self._attempted_s, self._first_frame_s = now_s, None
        return Open(self.epoch)

    def received(self, width: int, height: int, now_s: float) -> None:
        """Note a frame of the open source and its size in pixels."""
        if self._first_frame_s is None:
            self._first_frame_s = now_s
            self.reconnects += self._lost_before
            self._lost_before = False
            self._become("streaming", None, None, self.epoch, (width, height))
        elif (width, height) != (self.state.width, self.state.height):
            self._become("streaming", None, None, self.epoch, (width, height))
        if now_s - self._first_frame_s > self._settled_after_s:
            self._backoff.reset()  # not at the first frame: a stream that ends soon would be reopened without waits

    def interrupted(self) -> None:
        """Note that the source was closed for a pause: the next stream is a new epoch."""
        self.epoch += 1
        self._announce = True  # a pause may be over before it was published

    def lost(self, error: SourceError, now_s: float, *, paused: bool) -> None:
        """Note that the source could not be opened, or ended, or was interrupted.

        Args:
            error: the reason.
            now_s: monotonic time, seconds.
            paused: whether a command asks for a pause, which is then all that is published.
        """
        delivered, epoch = self._first_frame_s is not None, self.epoch
        self.epoch += delivered
        if paused:
            return
        over = isinstance(error, EndOfStream)
        if over and not self._loop:
            self._ended = True
            self._become("paused", error.cause, str(error), epoch)
        elif over and delivered:
            pass  # the file restarts; a file without frames would do so in a busy loop
        elif not self._retry:
            self._ended, self.failure = True, error
            self._become("failed", error.cause, str(error), epoch)
        else:
            self._lost_before = True
            # An attempt that took seconds to fail has waited already: the camera may be back since then.
            self._retry_at_s = (now_s if delivered else self._attempted_s) + self._backoff.next_s()
            if error.cause == "timeout":
                self._retry_at_s = max(self._retry_at_s, now_s + _RELEASE_S)
            self._become("stalled" if error.cause in ("stalled", "frozen") else "failed", error.cause, str(error), epoch)

    def _become(self, state: State, cause: str | None, detail: str | None, epoch: int, size: tuple[int, int] | None = None) -> None:
        before = self.state
        width, height = (before.width, before.height) if size is None else size
        self.state = CameraState(self._camera, state, cause, detail, epoch, width, height)
        if self.state != before or state == "connecting":
            self._changed(before, self.state)
