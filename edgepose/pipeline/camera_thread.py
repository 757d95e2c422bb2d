"""The thread of one camera: opens and reads the source as `CameraConnection` decides, and gives its frames to `FrameIntake`."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from edgepose.capture.pyav import PyAvSource
from edgepose.capture.redact import scrub, show
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import CameraConfig
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.pipeline.camera_connection import CameraConnection, Open, Pause, Wait
from edgepose.pipeline.frame_intake import FrameIntake
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.image_quality import ImageQuality
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_TURN_S = 0.2  # longest wait between two checks whether the thread must end or pause
_GRACE_S = 10.0  # beyond a source's own deadlines, for a busy machine; after that the thread counts as stuck
_FILE_PATIENCE_S = 600.0  # a video that is paced by its timestamps may have long gaps


OpenCamera = Callable[[str, CameraConfig, int], Source]
"""An opener of the source of a camera, by its name, configuration and epoch; SourceError where it cannot be opened."""


class CameraThread(SupervisedThread):
    """The thread that reads one source for as long as the daemon runs."""

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
        open_camera: OpenCamera | None = None,
    ) -> None:
        """
        Args:
            name: of the camera.
            inputs: prepares its frames.
            slots: receive them.
            changed: receives each change of state, in this thread.
            forever: whether a lost source is reopened, and the work restarts after an unexpected error.
            after: the thread that this one replaces; its epochs and counts continue.
            paused: whether the camera starts paused, until `resume`.
            open_camera: opens the source; None opens what the configuration names.
        """
        super().__init__(f"camera-{name}", _TURN_S + _GRACE_S, restart=forever)
        self._camera_name = name
        self._camera = camera
        self._metrics = metrics
        self._changed = changed
        self._forever = forever
        self._open_camera = open_camera
        local = path_of(camera.source) is not None and not camera.source.startswith("gst:")
        self._open_within_s = (_FILE_PATIENCE_S if local else camera.open_timeout_s) + _GRACE_S
        self._read_within_s = (_FILE_PATIENCE_S if local else camera.read_timeout_s) + _GRACE_S
        self._connection = CameraConnection(
            name,
            FullJitterBackoff(camera.reconnect_initial_s, camera.reconnect_maximum_s),
            self._tell,
            settled_after_s=camera.reconnect_maximum_s,
            loop=camera.loop,
            retry=forever,
            epoch=0 if after is None else after.state.epoch + 1,
            reconnects=0 if after is None else after.reconnects,
        )
        self._intake = FrameIntake(name, camera, inputs, slots, metrics, local=local)
        self._awake = threading.Event()  # set while no command asks for a pause
        if not paused:
            self._awake.set()
        self._abandoned = False
        self._lock = threading.Lock()  # guards the two below against a stop() while the source is being opened
        self._source: Source | None = None
        self._closed_from_outside: Source | None = None  # the last one: its error is no failure

    @property
    def state(self) -> CameraState:
        """The state of the camera now."""
        return self._connection.state

    @property
    def camera(self) -> CameraConfig:
        """The camera's configuration."""
        return self._camera

    @property
    def paused(self) -> bool:
        """Whether a command asks for a pause."""
        return not self._awake.is_set()

    @property
    def reconnects(self) -> int:
        """Number of times that the stream came back after it was lost."""
        return self._connection.reconnects

    @property
    def image_quality(self) -> ImageQuality | None:
        """Image quality of a frame of the last second, None before the first."""
        return self._intake.image_quality

    def exchange_preprocessor(self, inputs: Preprocessor) -> None:
        """Prepare frames for another network from the next one on."""
        self._intake.preprocessor = inputs

    def tap(self, take: Callable[[Frame], None]) -> None:
        """Pass the next frame to `take` too, in this thread."""
        self._intake.tap = take

    def pause(self) -> None:
        """Close the source until `resume`."""
        self._awake.clear()
        self._close_source()

    def resume(self) -> None:
        """Open the source again after a pause."""
        self._awake.set()

    def stop(self) -> None:
        """End the thread soon: a blocking read is interrupted."""
        self.ending.set()
        self._close_source()

    def abandon(self) -> None:
        """Give up a thread that is stuck: if it comes back, its frames and states are ignored."""
        self._abandoned = True
        self.stop()

    def work(self) -> None:
        """Do what the connection decides, until that or the thread ends."""
        while not self.ending.is_set():
            self.heartbeat.beat()
            match self._connection.next(time.monotonic(), paused=self.paused):
                case Pause():
                    self._awake.wait(_TURN_S)
                case Wait(seconds):
                    self.ending.wait(min(seconds, _TURN_S))
                case Open(epoch):
                    self._stream(epoch)
                case None:
                    return

    def _stream(self, epoch: int) -> None:
        """Open the source, read it until it is lost or closed from outside, and tell the connection which."""
        error = self._read(epoch)
        if self.ending.is_set():
            return
        if error is None:
            self._connection.interrupted()
            return
        said = scrub(str(error))  # from here on it is published, logged and recorded
        if said != str(error):
            error = EndOfStream(said) if isinstance(error, EndOfStream) else SourceError(said, error.cause)
        self._connection.lost(error, time.monotonic(), paused=self.paused)
        self.failure = self._connection.failure

    def _read(self, epoch: int) -> SourceError | None:
        """Open the source and read it; return why it was lost, None where a pause or the end of the thread closed it."""
        source = None
        try:
            self.heartbeat.beat(self._open_within_s)
            if self._open_camera is None:
                source = open_source(self._camera_name, self._camera, epoch=epoch)
            else:
                source = self._open_camera(self._camera_name, self._camera, epoch)
            with self._lock:
                self._source, self._closed_from_outside = source, None
            losses: Counter[str] = Counter()
            try:
                self._intake.opened(time.monotonic())
                while self._wanted():
                    self._read_frame(source, losses)
            finally:
                self._count_losses(source, losses)
                with self._lock:
                    self._source = None
                self.heartbeat.beat(_GRACE_S)
                source.close()
        except SourceError as error:
            return None if self._was_closed_from_outside(source) else error
        except Exception as error:  # an internal fault, or one of a library, must not end the camera silently
            if self._was_closed_from_outside(source):
                return None
            what = f"camera {self._camera_name}: unexpected {type(error).__name__}: {scrub(str(error))}"
            _log.error("%s", what, exc_info=_log.isEnabledFor(10))
            return SourceError(what, "internal")
        return None

    def _read_frame(self, source: Source, losses: Counter[str]) -> None:
        self.heartbeat.beat(self._read_within_s + source.patience_s)
        frame = source.read()
        now_s = time.monotonic()
        self._count_losses(source, losses)
        self._metrics.received(self._camera_name, now_s)
        if not self._intake.moves(frame, now_s):
            return
        self._connection.received(frame.width, frame.height, now_s)
        if not self._abandoned:
            self._intake.take(frame, live=source.live, waiting=self._waiting)
            if isinstance(source, PyAvSource):
                source.skip_unreferenced(self._intake.skips_decoding)

    def _waiting(self) -> bool:
        self.heartbeat.beat()
        return self._wanted()

    def _wanted(self) -> bool:
        return self._awake.is_set() and not self.ending.is_set()

    def _close_source(self) -> None:
        with self._lock:
            source = self._source
            self._closed_from_outside = source or self._closed_from_outside
        if source is not None:  # in a thread of its own: a library that is stuck may block in closing, too
            threading.Thread(target=source.close, name=f"{self.name}-close", daemon=True).start()

    def _was_closed_from_outside(self, source: Source | None) -> bool:
        with self._lock:
            return source is not None and source is self._closed_from_outside

    def _count_losses(self, source: Source, counted: Counter[str]) -> None:
        skipped = source.skipped_frames if isinstance(source, PyAvSource) else 0
        losses = (
            *(("corrupt", source.corrupt_frames), ("stale", source.stale_frames)),
            *(("superseded", source.superseded_frames), ("skipped", skipped)),
        )
        for cause, frames in losses:
            if frames > counted[cause]:
                self._metrics.dropped(self._camera_name, cause, frames - counted[cause])
                counted[cause] = frames

    def _tell(self, before: CameraState, now: CameraState) -> None:
        if self._abandoned:
            return
        if (now.state, now.cause) != (before.state, before.cause):  # log on change, not on every attempt
            self._log_change(now)
        self._changed(now)

    def _log_change(self, now: CameraState) -> None:
        fields = {"camera": now.camera, "state": now.state, "cause": now.cause, "epoch": now.epoch}
        if now.state in ("failed", "stalled"):
            _log.warning("%s (%s)%s", now.detail, now.cause, "; trying again" if self._forever else "", extra=fields)
        elif now.state == "streaming":
            size, source = f"{now.width}x{now.height}", show(self._camera.source)
            _log.info("camera %s: streaming %s from %s, epoch %d", now.camera, size, source, now.epoch, extra=fields)
        elif now.state == "paused":
            _log.info("%s", now.detail, extra=fields)
