"""Video files and network streams through PyAV, with deadlines that hold."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepose import config
from edgepose.capture.clock import NS_PER_S, FileClock, LiveClock
from edgepose.capture.failures import source_error, unresolved_host
from edgepose.capture.freshness import Freshness
from edgepose.capture.redact import redact
from edgepose.capture.stream import Stream
from edgepose.capture.worker import Worker, WorkerClosedError, WorkerTimeoutError
from edgepose.errors import EndOfStream, SourceError
from edgepose.frame import Frame

T = TypeVar("T")

_GOODBYE_S = 0.5
"""How long `close` waits for a thread to take leave of its server: cameras keep a session that nobody ends."""


class PyAvSource:
    """A source that FFmpeg reads: a video file, an RTSP or HTTP stream.

    All of FFmpeg runs in a thread of its own, since some of its waits know no time-out and others take twice the one they are given.
    After an error the source is closed.

    Args:
        camera: name in the configuration.
        settings: of this camera.
        target: URL, or path of a file.
        network: whether `target` is a URL.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: it cannot be opened, within `open_timeout_s`.
    """

    def __init__(self, camera: str, settings: config.Camera, target: str, *, network: bool, epoch: int = 0) -> None:
        self.camera = camera
        self.url = redact(target)
        self.width = 0
        self.height = 0
        self._settings = settings
        self._target = target
        self._network = network
        self._epoch = epoch
        self._sequence = 0
        self._stale_frames = 0
        self._closed = threading.Event()
        self._where = f"camera {camera}: {self.url}"
        self._stream = Stream(
            # The prefix keeps FFmpeg from seeing a protocol in a file name with a colon.
            target if network else f"file:{target}",
            _options(settings, target) if network else {},
            self._where,
            # PyAV's time-outs only end the thread; the wait for it has the deadline. So that the deadline speaks first: a little more.
            open_timeout_s=settings.open_timeout_s + 1,
            read_timeout_s=settings.read_timeout_s,
            low_delay=network,
        )
        self._worker = Worker(f"capture-{camera}", self._stream.close)
        self._call(self._stream.open, settings.open_timeout_s, opening=True)
        # An RTSP server that plays a file is a camera to us; a file on a web server is a file.
        self._finite = self._stream.finite and not _is_rtsp(target)
        self.live = not self._finite or settings.realtime
        self._opened_at_ns = time.monotonic_ns()
        self._live_clock = LiveClock()
        self._freshness = Freshness(settings.stale_after_s)
        self._file_clock = FileClock(time.time_ns(), self._stream.interval_ns)

    @property
    def corrupt_frames(self) -> int:
        """Number of packets so far of which nothing could be decoded."""
        return self._stream.corrupt_frames

    @property
    def stale_frames(self) -> int:
        """Number of pictures so far that came too late to be shown."""
        return self._stale_frames

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
        self._worker.join(_GOODBYE_S)

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
        while (picture := self._stream.next_picture()) is not None:
            stamp = self._live_clock.stamp(picture.pts_ns, picture.sender_ns, picture.arrival)
            now_ns = picture.arrival.monotonic_ns
            verdict = self._freshness.judge(picture.pts_ns, stamp.late_ns, now_ns)
            sequence, self._sequence = self._sequence, self._sequence + 1
            if verdict == "fresh":
                image = self._stream.image(picture)
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
        picture = self._stream.next_picture()
        return None if picture is None else (self._stream.image(picture), picture.pts_ns)

    def _after_the_end(self) -> tuple[NDArray[np.uint8], int | None]:
        if not self._sequence:
            self._let_go()
            raise SourceError(
                f"{self._where} has a video stream of which no picture could be decoded ({self.corrupt_frames} damaged packets);"
                " a whole file is accepted",
                "unsupported",
            )
        if self._settings.loop:
            self._call(self._stream.open, self._settings.open_timeout_s, opening=True)
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
            if opening and self._network and (unresolved := unresolved_host(failure, self._target, self._where)):
                raise unresolved from failure
            raise source_error(failure, self._where, opening=opening) from failure

    def _late(self, timeout_s: float, opening: bool) -> SourceError:
        if opening:
            return SourceError(f"{self._where} did not open within {timeout_s:g} s", "timeout")
        packets = self._stream.packets_without_picture
        what = f"no picture could be made of {packets} packets; are key frames rarer than that?" if packets else "nothing came"
        return SourceError(f"{self._where} gave no picture for {timeout_s:g} s: {what}", "stalled")

    def _closed_error(self) -> SourceError:
        return SourceError(f"{self._where} is closed", "closed")

    def _let_go(self) -> None:
        self._closed.set()
        self._stream.abandon()
        self._worker.close()


def _is_rtsp(target: str) -> bool:
    return target.lower().startswith(("rtsp://", "rtsps://"))


def _options(settings: config.Camera, url: str) -> dict[str, str]:
    """Return FFmpeg's options for a network stream."""
    if _is_rtsp(url):
        return {
            "rtsp_transport": settings.rtsp_transport,
            "allowed_media_types": "video",
            # The session description names the codec: no probing, which takes a second and more.
            "analyzeduration": "0",
            "probesize": "32",
        }
    # Over HTTP only probing finds out what it is; FFmpeg's own 5 s are as long as our patience.
    return {"analyzeduration": "1000000"}
