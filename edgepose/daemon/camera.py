"""One thread a camera: opens the source, again and again if need be, and leaves its frames, laid out, for the engine."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from edgepose.capture.backoff import FullJitterBackoff
from edgepose.capture.source import Source, open_source, redact
from edgepose.config import Camera
from edgepose.daemon.metrics import Metrics
from edgepose.daemon.slots import Slots
from edgepose.daemon.stages import InputStage
from edgepose.errors import EdgeposeError, EndOfStream, SourceError
from edgepose.frame import Frame

_log = logging.getLogger(__name__)

_TURN_S = 0.2  # how often a waiting thread looks whether it shall stop

State = Literal["connecting", "streaming", "stalled", "failed", "paused"]


@dataclass(frozen=True, slots=True)
class CameraState:
    """What is known of a camera, published whenever it changes.

    Attributes:
        camera: its name.
        state: `connecting`, `streaming`, `stalled` (open, but no frames come), `failed` (cannot be opened, or broke off)
            or `paused` (a file is over).
        cause: stable name of the reason, None while all is well.
        detail: the reason in one sentence, credentials redacted.
        epoch: number of times the source gave frames and lost them.
        width, height: size of the frames in pixels, None before the first.
    """

    camera: str
    state: State
    cause: str | None
    detail: str | None
    epoch: int
    width: int | None = None
    height: int | None = None


class CameraThread(threading.Thread):
    """Reads one source for as long as the daemon runs.

    A source that is lost is opened again, for ever, after waits that grow with full jitter; each time that it was open
    starts a new epoch. A source that the operator gave for one run only (`forever=False`) fails for good instead.
    """

    def __init__(
        self,
        name: str,
        camera: Camera,
        inputs: InputStage,
        slots: Slots,
        metrics: Metrics,
        changed: Callable[[CameraState], None],
        *,
        forever: bool = True,
    ) -> None:
        super().__init__(name=f"camera-{name}", daemon=True)
        self._camera_name = name
        self._camera = camera
        self._inputs = inputs
        self._slots = slots
        self._metrics = metrics
        self._changed = changed
        self._forever = forever
        self._backoff = FullJitterBackoff(camera.reconnect_initial_s, camera.reconnect_maximum_s)
        self._stop_requested = threading.Event()
        self._lock = threading.Lock()  # guards _source against a stop() while it is being opened
        self._source: Source | None = None
        self._state = CameraState(name, "connecting", None, None, 0)
        self.failure: EdgeposeError | None = None

    @property
    def state(self) -> CameraState:
        """What is known of the camera now."""
        return self._state

    def stop(self) -> None:
        """Ends the thread soon: a blocking read is broken off."""
        self._stop_requested.set()
        with self._lock:
            if self._source is not None:
                self._source.close()

    def run(self) -> None:
        """Work of the thread."""
        epoch = 0
        self._become("connecting", None, None, epoch)
        while not self._stop_requested.is_set():
            lost = self._open_and_read(epoch)
            if lost is None or self._stop_requested.is_set():
                break
            opened, error = lost
            over = isinstance(error, EndOfStream)
            if over and not self._camera.loop:
                self._become("paused", error.cause, str(error), epoch)
                break
            if not over or not opened:  # a file without frames, played again and again, would spin
                if not self._forever:
                    self.failure = error
                    self._become("failed", error.cause, str(error), epoch)
                    break
                self._become("stalled" if error.cause == "stalled" else "failed", error.cause, str(error), epoch)
                self._stop_requested.wait(self._backoff.next_s())
            epoch += opened

    def _open_and_read(self, epoch: int) -> tuple[bool, SourceError] | None:
        """Reads until the source is lost; returns whether it had given frames, and why it was lost. None: told to stop."""
        delivered = False
        first_frame_s = 0.0
        try:
            source = open_source(self._camera_name, self._camera, epoch=epoch)
            with self._lock:
                self._source = source
            try:
                corrupt = 0
                while not self._stop_requested.is_set():
                    frame = source.read()
                    if source.corrupt_frames > corrupt:
                        self._metrics.dropped(self._camera_name, "corrupt", source.corrupt_frames - corrupt)
                        corrupt = source.corrupt_frames
                    if not delivered:
                        delivered, first_frame_s = True, time.monotonic()
                        self._become("streaming", None, None, epoch, frame)
                    elif (frame.width, frame.height) != (self._state.width, self._state.height):
                        self._become("streaming", None, None, epoch, frame)
                    now_s = time.monotonic()
                    if now_s - first_frame_s > self._camera.reconnect_maximum_s:
                        self._backoff.reset()  # not on the first frame: a stream that breaks off at once would be opened without end
                    self._metrics.received(self._camera_name, now_s)
                    self._leave(frame, live=source.live)
            finally:
                with self._lock:
                    self._source = None
                source.close()
        except SourceError as error:
            return delivered, error
        except Exception as error:  # a fault of ours or of a library must not end the camera in silence
            _log.error("camera %s: unexpected %s: %s", self._camera_name, type(error).__name__, error, exc_info=_log.isEnabledFor(10))
            return delivered, SourceError(f"camera {self._camera_name}: unexpected {type(error).__name__}: {error}", "internal")
        return None

    def _leave(self, frame: Frame, *, live: bool) -> None:
        try:
            # Here and not in the engine's thread, which has better things to do: the engine then runs without a gap.
            prepared = self._inputs.prepare(frame)
        except ValueError as error:
            self._metrics.dropped(self._camera_name, "corrupt")
            _log.debug("camera %s: frame %d cannot be laid out: %s", self._camera_name, frame.sequence, error)
            return
        if live:
            self._slots.put(prepared)
            return
        while not self._slots.put_when_free(prepared, _TURN_S):
            if self._stop_requested.is_set():
                return

    def _become(self, state: State, cause: str | None, detail: str | None, epoch: int, frame: Frame | None = None) -> None:
        before = self._state
        width, height = (frame.width, frame.height) if frame is not None else (before.width, before.height)
        self._state = CameraState(self._camera_name, state, cause, detail, epoch, width, height)
        if self._state == before and state != "connecting":
            return
        if (state, cause) != (before.state, before.cause):  # log on change, not on every attempt
            if state in ("failed", "stalled"):
                _log.warning("%s (%s)%s", detail, cause, "; trying again" if self._forever else "")
            elif state == "streaming":
                _log.info(
                    "camera %s: streaming %dx%d from %s, epoch %d", self._camera_name, width, height, redact(self._camera.source), epoch
                )
            elif state == "paused":
                _log.info("%s", detail)
        self._changed(self._state)
