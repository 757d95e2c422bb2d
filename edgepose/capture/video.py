"""What all that moves has in common, whoever decodes it: a thread of its own, deadlines, clocks, and pictures that are fresh."""

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepose.capture.clock import NS_PER_S, FileClock, LiveClock
from edgepose.capture.freshness import Freshness
from edgepose.capture.stream import DecodedFrame
from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError
from edgepose.config import schema
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame

T = TypeVar("T")


class Video(Protocol):
    """A library's video, one blocking step at a time; all of it, but the counters and `abandon`, belongs to one thread.

    Attributes:
        finite: whether it is a file, which ends, and not a camera; known when it is open.
        interval_ns: nominal time between two pictures; known when it is open.
        corrupt_frames: pictures that came damaged.
        superseded_frames: pictures that a newer one replaced before `next_picture` was called.
        packets_without_picture: packets that came since the last picture.
    """

    finite: bool
    interval_ns: int
    corrupt_frames: int
    superseded_frames: int
    packets_without_picture: int

    def open(self) -> None:
        """Open the video; again, to begin from its start."""

    def next_picture(self) -> DecodedFrame | None:
        """Return the next picture, or None at the end."""

    def image(self, picture: DecodedFrame) -> NDArray[np.uint8]:
        """Return a picture as uint8 (H, W, 3), RGB, upright."""

    def abandon(self) -> None:
        """Let a `next_picture` in progress end soon; from any thread."""

    def close(self) -> None:
        """Close the video."""


class VideoSource:
    """A source that some library reads.

    All of the library runs in a thread of its own, since some of its waits know no time-out and others take twice the one they
    are given. After an error the source is closed.

    Args:
        camera: name in the configuration.
        url: where the pictures come from, redacted.
        settings: of this camera.
        video: what the library makes of it, not open yet.
        epoch: number of times this camera was opened before.
        endless: whether it is a camera whatever the video says of itself.
        goodbye_s: how long `close` waits for the thread to take leave.
        live_clock: gives the clock for the capture times of a live video that is open.

    Raises:
        SourceError: it cannot be opened, within `open_timeout_s`.
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
        goodbye_s: float,
        live_clock: Callable[[], LiveClock] = LiveClock,
    ) -> None:
        self.camera = camera
        self.url = url
        self.width = 0
        self.height = 0
        self._settings = settings
        self._epoch = epoch
        self._goodbye_s = goodbye_s
        self._sequence = 0
        self._stale_frames = 0
        self._closed = threading.Event()
        self._where = f"camera {camera}: {url}"
        self._video = video
        self._worker = Worker(f"capture-{camera}", video.close)
        self._call(video.open, settings.open_timeout_s, opening=True)
        self._finite = video.finite and not endless
        self.live = not self._finite or settings.realtime
        self._opened_at_ns = time.monotonic_ns()
        self._live_clock = live_clock()
        self._freshness = Freshness(settings.stale_after_s)
        self._file_clock = FileClock(time.time_ns(), video.interval_ns)

    @property
    def corrupt_frames(self) -> int:
        """Number of pictures so far that came damaged and were not given."""
        return self._video.corrupt_frames

    @property
    def stale_frames(self) -> int:
        """Number of pictures so far that came too late to be shown."""
        return self._stale_frames

    @property
    def superseded_frames(self) -> int:
        """Number of pictures so far that a newer one replaced before anybody read them."""
        return self._video.superseded_frames

    def read(self) -> Frame:
        """Return the next picture; waits `read_timeout_s` at most, and for a paced file until it is due.

        Raises:
            EndOfStream: a finite source is over.
            SourceError: the stream stalled, ended or failed, or the source was closed.
        """
        frame = self._next_of_file() if self._finite else self._next_of_stream()
        self.width, self.height = frame.width, frame.height
        return frame

    def close(self) -> None:
        """Close the source, from any thread; a `read` that waits ends at once. May be called again."""
        self._let_go()
        self._worker.join(self._goodbye_s)

    def _next_of_stream(self) -> Frame:
        while True:
            fresh = self._call(self._fresh_frame, self._settings.read_timeout_s, opening=False)
            if fresh is None:
                self._let_go()
                raise SourceError(f"{self._where} ended the stream", "ended")
            frame, judged_at_ns = fresh
            held_s = (time.monotonic_ns() - judged_at_ns) / NS_PER_S
            if held_s <= (self._settings.stale_after_s or held_s):
                return frame
            self._stale_frames += 1  # somebody stopped this whole process with the picture in its hands

    def _fresh_frame(self) -> tuple[Frame, int] | None:
        """In the worker's thread: the next picture that is not stale, and when that was found (monotonic); None at the end."""
        first_late_ns = 0
        while (picture := self._video.next_picture()) is not None:
            stamp = self._live_clock.stamp(picture.pts_ns, picture.sender_ns, picture.arrival)
            now_ns = picture.arrival.monotonic_ns
            verdict = self._freshness.judge(picture.pts_ns, stamp.late_ns, now_ns)
            sequence, self._sequence = self._sequence + self._video.superseded_frames, self._sequence + 1
            if verdict == "fresh":
                image = self._video.image(picture)
                return Frame(image, stamp.captured_at, stamp.clock, sequence, self.camera, self._epoch), now_ns
            self._stale_frames += 1
            first_late_ns = first_late_ns or now_ns
            if verdict == "standing":
                raise SourceError(
                    f"{self._where} sends pictures whose time-stamps have stood still for {(now_ns - first_late_ns) / NS_PER_S:.1f} s",
                    "frozen",
                )
            if verdict == "behind":
                raise SourceError(
                    f"{self._where} sends pictures {stamp.late_ns / NS_PER_S:.1f} s late and does not catch up: the network is slower"
                    " than the stream, or the camera's time-stamps are faster than time",
                    "stalled",
                )
        return None

    def _next_of_file(self) -> Frame:
        pictured = self._call(self._pictured, self._settings.read_timeout_s, opening=False)
        if pictured is None:
            pictured = self._after_the_end()
        image, pts_ns = pictured
        captured_at, clock = self._file_clock.stamp(pts_ns)
        if self._settings.realtime:
            self._wait_until_due()
        frame = Frame(image, captured_at, clock, self._sequence, self.camera, self._epoch)
        self._sequence += 1
        return frame

    def _pictured(self) -> tuple[NDArray[np.uint8], int | None] | None:
        """In the worker's thread: the next picture and its presentation time; None at the end."""
        picture = self._video.next_picture()
        return None if picture is None else (self._video.image(picture), picture.pts_ns)

    def _after_the_end(self) -> tuple[NDArray[np.uint8], int | None]:
        if not self._sequence:
            self._let_go()
            raise SourceError(
                f"{self._where} has a video stream of which no picture could be decoded ({self.corrupt_frames} damaged ones);"
                " a whole file is accepted",
                "unsupported",
            )
        if self._settings.loop:
            self._call(self._video.open, self._settings.open_timeout_s, opening=True)
            self._file_clock.restart()
            pictured = self._call(self._pictured, self._settings.read_timeout_s, opening=False)
            if pictured is not None:
                return pictured
        self._let_go()
        raise EndOfStream(f"{self._where} is over after {self._sequence} pictures")

    def _wait_until_due(self) -> None:
        wait_s = (self._opened_at_ns + self._file_clock.elapsed_ns - time.monotonic_ns()) / NS_PER_S
        if wait_s > 0 and self._closed.wait(wait_s):
            raise self._closed_error()

    def _call(self, task: Callable[[], T], timeout_s: float, *, opening: bool) -> T:
        try:
            return self._worker.call(task, timeout_s)
        except WorkerClosedError:
            raise self._closed_error() from None
        except WorkerTimeoutError:
            error = self._late(timeout_s, opening)
            self._let_go()
            raise error from None
        except Exception as failure:
            self._let_go()
            raise self._failure(failure, opening) from failure

    def _late(self, timeout_s: float, opening: bool) -> SourceError:
        if opening:
            return SourceError(f"{self._where} did not open within {timeout_s:g} s", "timeout")
        packets = self._video.packets_without_picture
        what = f"no picture could be made of {packets} packets; are key frames rarer than that?" if packets else "nothing came"
        return SourceError(f"{self._where} gave no picture for {timeout_s:g} s: {what}", "stalled")

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        """What an exception of the library means to an operator."""
        raise NotImplementedError

    def _closed_error(self) -> SourceError:
        return SourceError(f"{self._where} is closed", "closed")

    def _let_go(self) -> None:
        self._closed.set()
        self._video.abandon()
        self._worker.close()
