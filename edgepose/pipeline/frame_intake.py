"""The work on each frame of one camera before the pose network: frozen check, preprocessing, image quality, slot."""

import logging
import math
import time
from collections.abc import Callable

from edgepose.capture.frozen import FrozenDetector
from edgepose.capture.redact import show
from edgepose.config.schema import CameraConfig
from edgepose.errors import SourceError
from edgepose.frame import NS_PER_S, Frame
from edgepose.pipeline.frame_slots import LatestFrameSlots
from edgepose.pipeline.stages import Preprocessor
from edgepose.pose.image_quality import ImageQuality, measure_image_quality
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_QUALITY_EVERY_S = 1.0
_SLOT_WAIT_S = 0.2
_SKIP_WINDOW_S = 2.0
_SKIP_LEAST_SHARE = 0.05  # of superseded frames; below it the network keeps up with what is decoded
_SKIP_LEAST_USED = 0.85  # of the frames that were used before
_SKIP_PAUSE_S, _SKIP_LONGEST_PAUSE_S = 30.0, 600.0


class RateLimit:
    """A limit on the rate of frames, by their capture times."""

    def __init__(self, maximum_rate: float) -> None:
        """
        Args:
            maximum_rate: most frames per second on average; 0 lets all pass.
        """
        self._interval_ns = round(NS_PER_S / maximum_rate) if maximum_rate else 0
        self._due_ns = 0

    def passes(self, captured_at_ns: int) -> bool:
        """Return whether a frame is used."""
        if not self._interval_ns:
            return True
        early_ns = self._due_ns - captured_at_ns
        if 0 < early_ns <= 2 * self._interval_ns:  # more, and the clock was set back
            return False
        # Frames rarely come when they are due: the next one is due one interval after the due time, not after this one.
        self._due_ns = captured_at_ns + self._interval_ns - (-early_ns if -self._interval_ns < early_ns <= 0 else 0)
        return True


class DecodeSkip:
    """A decision whether the decoder leaves out the frames that no other frame needs: the network takes less than half of all.

    Attributes:
        on: whether it does.
    """

    def __init__(self) -> None:
        self.on = False
        self._began_s: float | None = None  # of the window that is counted
        self._frames = self._superseded = 0
        self._used_before = 0.0  # frames per second that the network took of all
        self._not_before_s = -math.inf
        self._pause_s = _SKIP_PAUSE_S

    def update(self, *, superseded: bool, now_s: float) -> None:
        """Count a frame, and whether it took the place of one that the network had no time for; now_s is monotonic."""
        if self._began_s is None:
            self._began_s = now_s
        self._frames += 1
        self._superseded += superseded
        seconds = now_s - self._began_s
        if seconds < _SKIP_WINDOW_S:
            return
        used, share = (self._frames - self._superseded) / seconds, self._superseded / self._frames
        self._began_s, self._frames, self._superseded = now_s, 0, 0
        if not self.on:
            if share > 0.5 and now_s >= self._not_before_s:
                self.on, self._used_before = True, used
        elif share < _SKIP_LEAST_SHARE or used < _SKIP_LEAST_USED * self._used_before:  # too few remain, or the network is faster by now
            self.on = False
            self._not_before_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, _SKIP_LONGEST_PAUSE_S)


class FrameIntake:
    """The receiver of the frames of one camera, used by the camera's thread.

    Attributes:
        preprocessor: prepares the frames; replaced when another network is used.
        tap: receives the next frame, once; None where no frame is requested.
        image_quality: of a frame of the last second, None before the first.
    """

    def __init__(
        self, name: str, camera: CameraConfig, preprocessor: Preprocessor, slots: LatestFrameSlots, metrics: Metrics, *, local: bool
    ) -> None:
        """
        Args:
            name: of the camera.
            slots: receive the frames.
            local: whether the source is a file, whose image may stay the same for any time.
        """
        self.preprocessor = preprocessor
        self.tap: Callable[[Frame], None] | None = None
        self.image_quality: ImageQuality | None = None
        self._name = name
        self._camera = camera
        self._slots = slots
        self._metrics = metrics
        self._limit = RateLimit(camera.maximum_rate)
        self._frozen = FrozenDetector(0.0 if local else camera.frozen_after_s)
        self._measured_s = -math.inf
        self._skip = DecodeSkip()

    @property
    def skips_decoding(self) -> bool:
        """Whether frames that no other frame needs shall not be decoded."""
        return self._skip.on

    def opened(self, now_s: float) -> None:
        """Note that the source was opened, at a monotonic time in seconds."""
        self._skip = DecodeSkip()
        self._frozen.opened(now_s)

    def moves(self, frame: Frame, now_s: float) -> bool:
        """Return whether a frame is wanted; False, and counted, where the source still sends the image that it froze on.

        Raises:
            SourceError: the image has not changed for so long that the source must be reopened.
        """
        motion = self._frozen.update(frame.image, now_s)
        if motion == "moving":
            return True
        self._metrics.dropped(self._name, "frozen")
        if motion == "frozen":
            raise SourceError(
                f"camera {self._name}: {show(self._camera.source)} has sent the same image for {self._camera.frozen_after_s:g} s",
                "frozen",
            )
        return False

    def take(self, frame: Frame, *, live: bool, waiting: Callable[[], bool]) -> None:
        """Prepare a frame and put it into its slot.

        Args:
            live: whether it replaces a frame that was not taken yet; a frame of a file waits instead.
            waiting: called repeatedly while the frame waits; returns whether to continue.
        """
        tap, self.tap = self.tap, None
        if tap is not None:
            tap(frame)
        if live and frame.sequence % self._slots.every:
            self._metrics.dropped(self._name, "heat")
            return
        if live and not self._limit.passes(frame.captured_at_ns):
            self._metrics.dropped(self._name, "over_rate")
            return
        try:
            # Here and not in the inference thread: the network then runs without a gap.
            prepared = self.preprocessor.prepare(frame)
        except ValueError as error:
            self._metrics.dropped(self._name, "corrupt")
            _log.debug("camera %s: frame %d cannot be letterboxed: %s", self._name, frame.sequence, error)
            return
        now_s = time.monotonic()
        if now_s - self._measured_s > _QUALITY_EVERY_S:
            self._measured_s, self.image_quality = now_s, measure_image_quality(prepared.images, prepared.letterbox)
        if live:
            superseded = self._slots.put(prepared)
            if self._camera.skip_decoding:
                self._skip.update(superseded=superseded, now_s=now_s)
            return
        while waiting() and not self._slots.put_when_free(prepared, _SLOT_WAIT_S):
            pass
