"""The common part of all video sources: a worker thread, deadlines, clocks and freshness."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import NS_PER_S, FileClock, LiveClock
from edgepose.capture.files.facts import SourceFacts
from edgepose.capture.freshness import Freshness
from edgepose.capture.presentation import blackened
from edgepose.capture.stream import DecodedFrame
from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError
from edgepose.config import schema
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame

T = TypeVar("T")

_DECODING_S = 8.0
"""Longest time that decoding one frame may take beyond the wait for it."""
_log = logging.getLogger(__name__)


class Video(Protocol):
    """A video read by some library, one blocking step at a time; one thread owns it, except for the counters and `abandon`.

    Attributes:
        finite: whether it is a file, which ends, and not a camera; known once it is open.
        interval_ns: nominal time between two frames; known once it is open.
        corrupt_frames: number of damaged frames.
        superseded_frames: number of frames that a newer one replaced before `next_frame` was called.
        packets_without_frame: number of packets since the last frame.
        patience_s: how much longer than an ordinary stream it may wait for a frame; known once it is open.
        decoding: whether a frame is being decoded, which is no wait.
        late_by_nature: whether its frames may be late by any time; known once it is open.
        pixel_aspect: width of a stored pixel divided by its height; known once it is open.
    """

    @property
    def finite(self) -> bool:
        """Whether it is a file, and not a camera."""

    @property
    def interval_ns(self) -> int:
        """Nominal time between two frames."""

    @property
    def corrupt_frames(self) -> int:
        """Number of damaged frames."""

    @property
    def superseded_frames(self) -> int:
        """Number of frames that a newer one replaced."""

    @property
    def packets_without_frame(self) -> int:
        """Number of packets since the last frame."""

    @property
    def patience_s(self) -> float:
        """How much longer than an ordinary stream it may wait for a frame."""

    @property
    def decoding(self) -> bool:
        """Whether a frame is being decoded, which is no wait."""

    @property
    def late_by_nature(self) -> bool:
        """Whether its frames may be late by any time."""

    @property
    def pixel_aspect(self) -> float:
        """Width of a stored pixel divided by its height; images have square pixels."""

    def open(self) -> None:
        """Open the video, or reopen it at its start."""

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""

    def image(self, frame: DecodedFrame) -> NDArray[np.uint8]:
        """Return the image of a frame as uint8 (H, W, 3), RGB, upright, with square pixels."""

    def abandon(self) -> None:
        """Let a `next_frame` in progress end soon; callable from any thread."""

    def close(self) -> None:
        """Close the video."""


class VideoSource:
    """A source of frames from a video.

    The library runs entirely in a worker thread, since some of its waits have no timeout and others take up to twice their timeout.
    The source is closed after an error.

    Args:
        camera: name in the configuration.
        url: URL, pipeline or path, redacted.
        settings: configuration of the camera.
        video: the video, not open yet.
        epoch: number of times this camera was opened before.
        endless: whether it counts as a camera even where the video is finite.
        close_timeout_s: how long `close` waits for the worker thread.
        live_clock: returns the clock for the capture times of an open live video.

    Raises:
        SourceError: the source cannot be opened within `open_timeout_s`.
    """

    def __init__(
        self,
        camera: str,
        url: str,
        settings: schema.CameraConfig,
        video: Video,
        *,
        epoch: int = 0,
        endless: bool = False,
        close_timeout_s: float,
        live_clock: Callable[[], LiveClock] = LiveClock,
    ) -> None:
        self.camera = camera
        self.url = url
        self.width = 0
        self.height = 0
        self._settings = settings
        self._epoch = epoch
        self._close_timeout_s = close_timeout_s
        self._sequence = 0
        self._stale_frames = 0
        self._image_s = 0.0  # that the last image took: work, which does not make it stale
        self._closed = threading.Event()
        self._where = f"camera {camera}: {url}"
        self.facts = SourceFacts()
        """What is known of a file beyond its frames."""
        self._file = ""
        self._video = video
        self._worker = Worker(f"capture-{camera}", video.close)
        self._call(video.open, settings.open_timeout_s, opening=True)
        self._finite = video.finite and not endless
        self.live = not self._finite or settings.realtime
        self._opened_at_ns = time.monotonic_ns()
        self._live_clock = live_clock()
        self._freshness = Freshness(0 if video.late_by_nature else settings.stale_after_s)
        self._file_clock = FileClock(time.time_ns(), video.interval_ns)

    def begin_at(self, start_ns: int) -> None:
        """Set the capture time of the first frame of a file, ns since the Unix epoch; before the first `read`."""
        self._file_clock = FileClock(start_ns, self._video.interval_ns)

    @property
    def corrupt_frames(self) -> int:
        """Number of frames so far that were damaged and skipped."""
        return self._video.corrupt_frames

    @property
    def stale_frames(self) -> int:
        """Number of frames so far that arrived too late to be used."""
        return self._stale_frames

    @property
    def patience_s(self) -> float:
        """How much longer than `read_timeout_s` a `read` may wait, seconds."""
        return self._video.patience_s + _DECODING_S

    @property
    def superseded_frames(self) -> int:
        """Number of frames so far that a newer one replaced before they were read."""
        return self._video.superseded_frames

    def read(self) -> Frame:
        """Return the next frame; waits at most `read_timeout_s`, and with `realtime` until the frame of a file is due.

        Raises:
            EndOfStream: a finite source has ended.
            SourceError: the stream stalled, ended or failed, or the source was closed.
        """
        frame = self._next_of_file() if self._finite else self._next_of_stream()
        self.width, self.height = frame.width, frame.height
        return frame

    def close(self) -> None:
        """Close the source from any thread, which ends a waiting `read` immediately; idempotent."""
        self._release()
        self._worker.join(self._close_timeout_s)

    def _next_of_stream(self) -> Frame:
        while True:
            fresh = self._call(self._fresh_frame, self._settings.read_timeout_s + self._video.patience_s, opening=False)
            if fresh is None:
                self._release()
                raise SourceError(f"{self._where} ended the stream", "ended")
            frame, checked_at_ns = fresh
            held_s = (time.monotonic_ns() - checked_at_ns) / NS_PER_S
            if self._video.late_by_nature or held_s <= (self._settings.stale_after_s or held_s) + self._image_s:
                return frame
            self._stale_frames += 1  # the process was suspended while it held this frame

    def _masked(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return blackened(image, self._settings.masks)

    def _fresh_frame(self) -> tuple[Frame, int] | None:
        """Return, in the worker thread, the next frame that is not stale and when that was checked (monotonic, ns); None at the end."""
        first_late_ns = 0
        while (decoded := self._video.next_frame()) is not None:
            stamp = self._live_clock.stamp(decoded.pts_ns, decoded.sender_ns, decoded.arrival)
            now_ns = decoded.arrival.monotonic_ns
            state = self._freshness.classify(decoded.pts_ns, stamp.late_ns, now_ns)
            sequence, self._sequence = self._sequence + self._video.superseded_frames, self._sequence + 1
            if state == "fresh":
                began_s = time.monotonic()
                image = self._video.image(decoded)
                self._image_s = time.monotonic() - began_s
                aspect = self._video.pixel_aspect
                return Frame(
                    self._masked(image), stamp.captured_at_ns, stamp.clock, sequence, self.camera, self._epoch, pixel_aspect=aspect
                ), now_ns
            self._stale_frames += 1
            first_late_ns = first_late_ns or now_ns
            if state == "standing":
                raise SourceError(
                    f"{self._where} sends frames whose timestamps have stood still for {(now_ns - first_late_ns) / NS_PER_S:.1f} s",
                    "frozen",
                )
            if state == "behind":
                raise SourceError(
                    f"{self._where} sends frames {stamp.late_ns / NS_PER_S:.1f} s late and does not catch up: the network is slower"
                    " than the stream, or the camera's timestamps run faster than time",
                    "stalled",
                )
        return None

    def _next_of_file(self) -> Frame:
        image_and_pts = self._call(self._next_image, self._settings.read_timeout_s, opening=False)
        if image_and_pts is None:
            image_and_pts = self._after_the_end()
        image, pts_ns = image_and_pts
        captured_at_ns, clock = self._file_clock.stamp(pts_ns)
        if self._file_clock.jumps > self.facts.time_jumps:
            self._note_jump()
        if self._settings.realtime:
            self._wait_until_due()
        aspect = self._video.pixel_aspect
        frame = Frame(
            self._masked(image), captured_at_ns, clock, self._sequence, self.camera, self._epoch, file=self._file, pixel_aspect=aspect
        )
        self._sequence += 1
        return frame

    def _note_jump(self) -> None:
        self.facts.time_jumps = self._file_clock.jumps
        if self.facts.time_jumps == 1:  # once is enough to know
            _log.warning(
                "%s: timestamps jump at frame %d; the clock goes on by one frame, there and wherever it happens again",
                self._where,
                self._sequence,
            )

    def _next_image(self) -> tuple[NDArray[np.uint8], int | None] | None:
        """Return, in the worker thread, the next image and its presentation time; None at the end."""
        decoded = self._video.next_frame()
        return None if decoded is None else (self._video.image(decoded), decoded.pts_ns)

    def _after_the_end(self) -> tuple[NDArray[np.uint8], int | None]:
        if not self._sequence:
            self._release()
            raise SourceError(
                f"{self._where} has a video stream of which no frame could be decoded ({self.corrupt_frames} damaged ones);"
                " expected a complete file",
                "unsupported",
            )
        if self._settings.loop:
            self._call(self._video.open, self._settings.open_timeout_s, opening=True)
            self._file_clock.restart()
            image_and_pts = self._call(self._next_image, self._settings.read_timeout_s, opening=False)
            if image_and_pts is not None:
                return image_and_pts
        self._note_end()
        self._release()
        raise EndOfStream(f"{self._where} ended after {self._sequence} frames")

    def _note_end(self) -> None:
        """Note in `facts`, before the video is closed, what of a file is missing."""

    def _wait_until_due(self) -> None:
        wait_s = (self._opened_at_ns + self._file_clock.elapsed_ns - time.monotonic_ns()) / NS_PER_S
        if wait_s > 0 and self._closed.wait(wait_s):
            raise self._closed_error()

    def _call(self, task: Callable[[], T], timeout_s: float, *, opening: bool) -> T:
        try:
            return self._worker.call(task, timeout_s, busy=lambda: self._video.decoding, busy_s=_DECODING_S)
        except WorkerClosedError:
            raise self._closed_error() from None
        except WorkerTimeoutError:
            late = self._timeout_error(timeout_s, opening)
            self._release()
            raise late from None
        except Exception as error:
            self._release()
            raise self._failure(error, opening) from error

    def _timeout_error(self, timeout_s: float, opening: bool) -> SourceError:
        if opening:
            return SourceError(f"{self._where} did not open within {timeout_s:g} s", "timeout")
        packets = self._video.packets_without_frame
        what = f"no frame could be decoded from {packets} packets; are key frames rarer than that?" if packets else "no data arrived"
        return SourceError(f"{self._where} delivered no frame for {timeout_s:g} s: {what}", "stalled")

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        """Return the error for an exception of the library."""
        raise NotImplementedError

    def _closed_error(self) -> SourceError:
        return SourceError(f"{self._where} is closed", "closed")

    def _release(self) -> None:
        self._closed.set()
        self._worker.close()  # first: a waiting `read` learns that it was closed, not how the video ends
        self._video.abandon()
