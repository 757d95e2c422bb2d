"""One thread a camera: opens the source, again and again if need be, and leaves its frames, laid out, for the engine."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable

from edgepose.capture.frozen import FrozenDetector
from edgepose.capture.redact import redact
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState, State
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.image_quality import ImageQuality, visibility
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_TURN_S = 0.2  # how often a waiting thread looks whether it shall stop
_MEASURED_EVERY_S = 1.0
_LETTING_GO_S = 0.25
_GRACE_S = 10.0  # beyond a source's own deadlines, on a machine that is busy; after that it hangs
_FILE_PATIENCE_S = 600.0  # a film that is paced by its time-stamps may have long gaps


class CameraThread(SupervisedThread):
    """Reads one source for as long as the daemon runs.

    A source that is lost is opened again, for ever, after waits that grow with full jitter; each time that it was open
    starts a new epoch. A source that the operator gave for one run only (`forever=False`) fails for good instead.
    """

    def __init__(
        self,
        name: str,
        camera: CameraConfig,
        inputs: Preprocessor,
        slots: LatestFrameSlots,
        metrics: Metrics,
        changed: Callable[[CameraState], None],
        *,
        forever: bool = True,
        after: "CameraThread | None" = None,
        paused: bool = False,
    ) -> None:
        """
        Args:
            inputs: lays out its frames.
            changed: told each change of state, from this thread.
            after: the thread whose place it takes, in the next epoch.
            paused: whether it begins with a pause, until `resume`.
        """
        super().__init__(f"camera-{name}", _TURN_S + _GRACE_S, restart=forever)
        self._camera_name = name
        self._camera = camera
        self._inputs = inputs
        self._slots = slots
        self._metrics = metrics
        self._changed = changed
        self._forever = forever
        self._backoff = FullJitterBackoff(camera.reconnect_initial_s, camera.reconnect_maximum_s)
        self._tried_s = 0.0
        self._awake = threading.Event()  # set while nothing asks for a pause
        if not paused:
            self._awake.set()
        self._abandoned = False
        self._lock = threading.Lock()  # guards the two below against a stop() while the source is being opened
        self._source: Source | None = None
        self._broken_off: Source | None = None  # the one that was closed from outside last: its error is no failure
        self._epoch = 0 if after is None else after.state.epoch + 1
        self._state = CameraState(name, "connecting", None, None, self._epoch)
        self._tap: Callable[[Frame], None] | None = None
        self._was_lost = False
        local = path_of(camera.source) is not None and not camera.source.startswith("gst:")
        self._open_within_s = (_FILE_PATIENCE_S if local else camera.open_timeout_s) + _GRACE_S
        self._frozen = FrozenDetector(0.0 if local else camera.frozen_after_s)
        self._read_within_s = (_FILE_PATIENCE_S if local else camera.read_timeout_s) + _GRACE_S
        self._measured_s = -math.inf
        self.visibility: ImageQuality | None = None
        """Of a picture of the last second or so."""
        self.reconnects: int = 0 if after is None else after.reconnects
        """Times that the stream came back after it was lost."""

    @property
    def state(self) -> CameraState:
        """What is known of the camera now."""
        return self._state

    @property
    def camera(self) -> CameraConfig:
        """Its configuration."""
        return self._camera

    @property
    def paused(self) -> bool:
        """Whether a command asked for a pause."""
        return not self._awake.is_set()

    def lay_out(self, inputs: Preprocessor) -> None:
        """Lays out frames for another network from the next one on."""
        self._inputs = inputs

    def tap(self, take: Callable[[Frame], None]) -> None:
        """Gives the next frame to `take`, from this thread, beside all else."""
        self._tap = take

    def pause(self) -> None:
        """Closes the source until `resume`."""
        self._awake.clear()
        self._break_off()

    def resume(self) -> None:
        """Goes on after a pause."""
        self._awake.set()

    def stop(self) -> None:
        """Ends the thread soon: a blocking read is broken off."""
        self.ending.set()
        self._break_off()

    def abandon(self) -> None:
        """Leaves a thread that hangs to itself: whatever it does when it comes to, nobody hears of it."""
        self._abandoned = True
        self.stop()

    def _break_off(self) -> None:
        with self._lock:
            source = self._source
            self._broken_off = source or self._broken_off
        if source is not None:  # in a thread of its own: a library that hangs may hang in closing, too
            threading.Thread(target=source.close, name=f"{self.name}-close", daemon=True).start()

    def work(self) -> None:
        """Opens and reads, again and again."""
        anew = False  # whether a pause is over that was too short to be told of
        while not self.ending.is_set():
            if not self._awake.is_set():
                self._become("paused", "command", f"camera {self._camera_name}: paused on command", self._epoch)
                while not (self._awake.wait(_TURN_S) or self.ending.is_set()):
                    self.heartbeat.beat()
                continue
            if anew or self._state.state in ("connecting", "paused"):
                self._become("connecting", None, None, self._epoch)
            lost = self._open_and_read(self._epoch)
            if self.ending.is_set():
                return
            if lost is None:  # a pause
                self._epoch += 1
                anew = True
                continue
            anew = False
            opened, error = lost
            self._epoch += opened
            if not self._awake.is_set():
                continue
            if not self._lost(opened, error):
                return
            del lost, error  # its traceback knows the source that was lost, which would live on beside the next one

    def _lost(self, opened: bool, error: SourceError) -> bool:
        """Deals with the loss of a source; whether it is to be opened again."""
        epoch, over = self._epoch - opened, isinstance(error, EndOfStream)
        if over and not self._camera.loop:
            self._become("paused", error.cause, str(error), epoch)
            return False
        if not over or not opened:  # a file without frames, played again and again, would spin
            if not self._forever:
                self.failure = error
                self._become("failed", error.cause, str(error), epoch)
                return False
            self._become("stalled" if error.cause in ("stalled", "frozen") else "failed", error.cause, str(error), epoch)
            self._was_lost = True
            # An attempt that took seconds to fail has waited already: the camera may be back since.
            again_s = (time.monotonic() if opened else self._tried_s) + self._backoff.next_s()
            if error.cause == "timeout":  # the port or device of the attempt is let go of only now
                again_s = max(again_s, time.monotonic() + _LETTING_GO_S)
            while self._wanted() and (left_s := again_s - time.monotonic()) > 0:
                self.heartbeat.beat()
                self.ending.wait(min(left_s, _TURN_S))
        return True

    def _wanted(self) -> bool:
        return self._awake.is_set() and not self.ending.is_set()

    def _open_and_read(self, epoch: int) -> tuple[bool, SourceError] | None:
        """Reads until the source is lost; returns whether it had given frames, and why it was lost. None: told to stop or to pause."""
        source = None
        delivered, first_frame_s = False, 0.0
        lost: Counter[str] = Counter()
        try:
            self.heartbeat.beat(self._open_within_s)
            self._tried_s = time.monotonic()
            source = open_source(self._camera_name, self._camera, epoch=epoch)
            with self._lock:
                self._source, self._broken_off = source, None
            try:
                self._frozen.opened(time.monotonic())
                while self._wanted():
                    self.heartbeat.beat(self._read_within_s)
                    frame = source.read()
                    self._count_losses(source, lost)
                    self._metrics.received(self._camera_name, time.monotonic())
                    if self._stands_still(frame):
                        continue
                    if not delivered:
                        delivered, first_frame_s = True, time.monotonic()
                        self.reconnects += self._was_lost
                        self._was_lost = False
                        self._become("streaming", None, None, epoch, frame)
                    elif (frame.width, frame.height) != (self._state.width, self._state.height):
                        self._become("streaming", None, None, epoch, frame)
                    if time.monotonic() - first_frame_s > self._camera.reconnect_maximum_s:
                        self._backoff.reset()  # not on the first frame: a stream that breaks off at once would be opened without end
                    self._leave(frame, live=source.live)
            finally:
                self._count_losses(source, lost)
                with self._lock:
                    self._source = None
                self.heartbeat.beat(_GRACE_S)
                source.close()
        except SourceError as error:
            return None if self._was_broken_off(source) else (delivered, error)
        except Exception as error:  # a fault of ours or of a library must not end the camera in silence
            if self._was_broken_off(source):
                return None
            _log.error("camera %s: unexpected %s: %s", self._camera_name, type(error).__name__, error, exc_info=_log.isEnabledFor(10))
            return delivered, SourceError(f"camera {self._camera_name}: unexpected {type(error).__name__}: {error}", "internal")
        return None

    def _was_broken_off(self, source: Source | None) -> bool:
        with self._lock:
            return source is not None and source is self._broken_off

    def _count_losses(self, source: Source, counted: Counter[str]) -> None:
        losses = (("corrupt", source.corrupt_frames), ("stale", source.stale_frames), ("superseded", source.superseded_frames))
        for cause, frames in losses:
            if frames > counted[cause]:
                self._metrics.dropped(self._camera_name, cause, frames - counted[cause])
                counted[cause] = frames

    def _stands_still(self, frame: Frame) -> bool:
        """Whether a frame is left out since the picture stands still; SourceError when it is time to open the camera anew."""
        verdict = self._frozen.update(frame.image, time.monotonic())
        if verdict == "moving":
            return False
        self._metrics.dropped(self._camera_name, "frozen")
        if verdict == "frozen":
            raise SourceError(
                f"camera {self._camera_name}: {redact(self._camera.source)} has sent one and the same picture for"
                f" {self._camera.frozen_after_s:g} s",
                "frozen",
            )
        return True

    def _leave(self, frame: Frame, *, live: bool) -> None:
        if self._abandoned:
            return
        tap, self._tap = self._tap, None
        if tap is not None:
            tap(frame)
        try:
            # Here and not in the engine's thread, which has better things to do: the engine then runs without a gap.
            prepared = self._inputs.prepare(frame)
        except ValueError as error:
            self._metrics.dropped(self._camera_name, "corrupt")
            _log.debug("camera %s: frame %d cannot be laid out: %s", self._camera_name, frame.sequence, error)
            return
        now_s = time.monotonic()
        if now_s - self._measured_s > _MEASURED_EVERY_S:
            self._measured_s, self.visibility = now_s, visibility(prepared.images, prepared.letterbox)
        if live:
            self._slots.put(prepared)
            return
        while self._wanted() and not self._slots.put_when_free(prepared, _TURN_S):
            self.heartbeat.beat()

    def _become(self, state: State, cause: str | None, detail: str | None, epoch: int, frame: Frame | None = None) -> None:
        if self._abandoned:
            return
        before = self._state
        width, height = (frame.width, frame.height) if frame is not None else (before.width, before.height)
        self._state = CameraState(self._camera_name, state, cause, detail, epoch, width, height)
        if self._state == before and state != "connecting":
            return
        if (state, cause) != (before.state, before.cause):  # log on change, not on every attempt
            fields = {"camera": self._camera_name, "state": state, "cause": cause, "epoch": epoch}
            if state in ("failed", "stalled"):
                _log.warning("%s (%s)%s", detail, cause, "; trying again" if self._forever else "", extra=fields)
            elif state == "streaming":
                source = redact(self._camera.source)
                _log.info("camera %s: streaming %dx%d from %s, epoch %d", self._camera_name, width, height, source, epoch, extra=fields)
            elif state == "paused":
                _log.info("%s", detail, extra=fields)
        self._changed(self._state)
