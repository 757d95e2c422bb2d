"""Source of video files and network streams through PyAV (FFmpeg)."""

import errno
import logging
import stat
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from edgepose.capture import tls
from edgepose.capture.clock import NS_PER_S
from edgepose.capture.failures import source_error, unknown_protocol, unresolved_host
from edgepose.capture.files.faults import cut_mp4, fault_of
from edgepose.capture.limits import FORMATS, MB, file_options, maximum_pixels
from edgepose.capture.presentation import matroska_duration_s
from edgepose.capture.redact import show
from edgepose.capture.stream import DecodedFrame, Stream
from edgepose.capture.video import VideoSource
from edgepose.config import schema
from edgepose.errors import SourceError

if TYPE_CHECKING:
    from edgepose.capture.network.rtsp_relay import RtspRoute

_log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 0.5
"""Longest wait of `close` for the thread to end its session: cameras keep a session that is not ended."""


_PROTOCOLS = {"rtmp": "rtmp,tcp", "udp": "udp", "tcp": "tcp", "rtp": "rtp,udp", "srt": "srt"}
"""Protocols of FFmpeg that each scheme needs; none of them can lead to another."""


@cache
def supports_scheme(scheme: str) -> bool:
    """Return whether this build of FFmpeg supports a URL scheme; only schemes that some builds lack are tested."""
    if scheme != "srt":
        return True
    try:
        av.open("srt://127.0.0.1:0").close()  # an invalid address: it is refused before anything is sent
    except av.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError):
        pass
    return True


class PyAvSource(VideoSource):
    """A source that FFmpeg reads: a video file, or a stream over RTSP, HTTP, RTMP, SRT, UDP, RTP or TCP.

    Args:
        camera: name in the configuration.
        settings: configuration of the camera.
        target: URL, or path of a file.
        network: whether `target` is a URL.
        epoch: number of times this camera was opened before.
        once: whether the URL of a picture is a file with one frame, rather than a camera.

    Raises:
        SourceError: the source cannot be opened within `open_timeout_s`.
    """

    def __init__(
        self, camera: str, settings: schema.CameraConfig, target: str, *, network: bool, epoch: int = 0, once: bool = False
    ) -> None:
        url = show(target) if network else target
        where = f"camera {camera}: {url}"
        over_http = network and target.lower().startswith(("http://", "https://"))
        if over_http:
            from edgepose.capture.network.http_video import HttpVideo

            stream: HttpVideo | Stream = HttpVideo(target, where, settings, once=once)
        else:
            stream = self._new_stream(settings, target, where, network=network)
        # A server that plays a file over RTSP counts as a camera; a file on a web server counts as a file.
        endless = network and not over_http
        super().__init__(camera, url, settings, stream, epoch=epoch, endless=endless, close_timeout_s=_CLOSE_TIMEOUT_S)
        self._stream = stream
        self.facts.notes.extend(stream.notes)
        for note in stream.notes:
            _log.info("%s", note)
        if isinstance(stream, _FileStream):
            self._file = target
            self.facts.expected_frames = stream.expected_frames

    @property
    def skipped_frames(self) -> int:
        """Number of frames so far that were not decoded, since `skip_unreferenced` asked for it."""
        return self._stream.skipped_frames

    def skip_unreferenced(self, skips: bool) -> None:
        """Leave out, from the next packet on, the decoding of frames that no other frame needs; all others keep their values."""
        self._stream.skips_unreferenced = skips

    def _note_end(self) -> None:
        stream = self._stream
        if isinstance(stream, _FileStream) and self.facts.missing is None:
            measure = partial(stream.missing, self._sequence, self._file_clock.elapsed_ns)
            self.facts.missing = self._call(measure, self._settings.read_timeout_s, opening=False)
            if self.facts.missing is not None:
                _log.warning("%s was cut: %s", self._where, self.facts.missing)

    @staticmethod
    def _new_stream(settings: schema.CameraConfig, target: str, where: str, *, network: bool) -> Stream:
        limit_bytes = settings.frame_limit_mb * MB
        common: dict[str, Any] = {
            # PyAV's timeouts only end the thread; the caller's deadline must expire first, so these are longer.
            "open_timeout_s": settings.open_timeout_s + 1,
            "read_timeout_s": settings.read_timeout_s,
            "is_file": not network and not _is_device(target),  # a pipe ends, too
            "low_delay": network,
            "limit_bytes": limit_bytes,
            "gray16_span": settings.gray16_span,
        }
        if not network:
            # The prefix keeps FFmpeg from taking a file name with a colon for a URL.
            return _FileStream(f"file:{target}", dict(file_options), where, rate=settings.rate, **common)
        options = _options(settings, target, where)
        if not _is_rtsp(target):
            return _NetworkStream(target, options, where, **common)
        from edgepose.capture.network.rtsp_relay import RtspRoute

        route = RtspRoute(target, where, ca_file=settings.ca_file, timeout_s=settings.open_timeout_s, limit_bytes=limit_bytes)
        return _RtspStream(route, target, options, where, **common)

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        return source_error(error, self._where, opening=opening)


class _FileStream(Stream):
    """A video file, which may be cut, without an index, or no video at all."""

    expected_frames: int | None = None
    """Number of frames that its index, or its duration, promises."""
    _promised_packets = 0  # by the index of an MP4
    _promised_ns = 0  # by the header of a Matroska file, for its video
    _packets_read = 0

    def open(self) -> None:
        """Open the file; a failure says what is wrong with the file, where that can be found."""
        path = Path(self.target.removeprefix("file:"))
        try:
            super().open()
        except av.InvalidDataError as error:
            fault = fault_of(path)
            if fault is None:
                raise
            raise SourceError(f"{self.where} {fault}", "unsupported") from error
        except SourceError as error:
            fault = fault_of(path) if error.cause == "no_video" else None  # FFmpeg takes some texts for subtitles
            if fault is None:
                raise
            raise SourceError(f"{self.where} {fault}", "unsupported") from error
        stream = self._stream
        self._promised_packets = stream.frames
        self._promised_ns = round((matroska_duration_s(stream) or 0) * NS_PER_S)
        self._packets_read = 0
        duration_us = self._container.duration or 0
        self.expected_frames = stream.frames or round(duration_us * 1000 / self.interval_ns) or None
        self._packets = self._counted(self._packets)

    def missing(self, frames: int, elapsed_ns: int) -> str | None:
        """Return how much of the file is missing after its last frame, as a sentence without a subject; None where it is complete.

        Args:
            frames: frames delivered.
            elapsed_ns: time from the first frame to the last.
        """
        cut = cut_mp4(Path(self.target.removeprefix("file:")))
        if self._packets_read < self._promised_packets:
            expected = f"{frames} of {self._promised_packets} frames could be read"
            return f"{expected}; {cut}" if cut is not None else expected
        if cut is not None and not self._promised_packets:  # fragments: no index counts their frames
            return f"{frames} frames could be read; its last fragment is cut, and how many follow is not known"
        behind_ns = self._promised_ns - elapsed_ns - self.interval_ns
        if behind_ns > max(NS_PER_S // 2, 3 * self.interval_ns):
            return f"its header promises {self._promised_ns / NS_PER_S:.1f} s, its video ends after {elapsed_ns / NS_PER_S:.1f} s"
        return None

    def _counted(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            self._packets_read += bool(packet.size)  # the last one is empty: it flushes the decoder
            yield packet


class _NetworkStream(Stream):
    """A network stream that finds the reason for a failure where FFmpeg reports none; in the worker's thread, since that takes time too."""

    def open(self) -> None:
        """Open the stream."""
        try:
            super().open()
        except av.HTTPOtherClientError:
            if self.options.pop("allowed_media_types", None) is None:
                raise
            self._open_any_media()
        except av.ProtocolNotFoundError as error:
            raise unknown_protocol(self.target, self.where) from error
        except av.OSError as error:
            if error.errno != errno.EIO:
                raise
            raise (unresolved_host(self.target, self.where) or error) from error

    def _open_any_media(self) -> None:
        """Open a stream without asking for video only: FFmpeg requests nothing from a server without video, which the server refuses."""
        for wait_s in (0.1, 0.4):
            try:
                super().open()
            except av.HTTPServerError:  # the server is still ending the previous session
                time.sleep(wait_s)
            else:
                return
        super().open()


class _RtspStream(_NetworkStream):
    """An RTSP stream, whose connection is made here and relayed to FFmpeg.

    Args:
        route: to the camera.
        settings: as for `Stream`.
    """

    def __init__(self, route: "RtspRoute", target: str, options: dict[str, str], where: str, **settings: Any) -> None:
        super().__init__(target, options, where, **settings)
        self._route = route

    def open(self) -> None:
        """Open the stream, where its server redirects to."""
        self._route.open(super().open)

    def next_frame(self) -> DecodedFrame | None:
        """Return the next frame, or None at the end."""
        decoded = super().next_frame()
        if decoded is None and self._route.failure is not None:
            raise self._route.failure
        self._route.frame_came()
        return decoded

    def abandon(self) -> None:
        """Let a `next_frame` in progress end now; callable from any thread."""
        super().abandon()
        self._route.end_reading()

    def close(self) -> None:
        """Close the video, and end the session at its server."""
        super().close()
        self._route.close()

    def _open_container(self) -> Any:
        return av.open(
            self._route.connect(),
            options={"max_pixels": str(maximum_pixels(self.limit_bytes))} | self.options,
            timeout=self._timeouts,
            metadata_errors="ignore",
        )


def _is_device(target: str) -> bool:
    try:
        mode = Path(target).stat().st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _is_rtsp(target: str) -> bool:
    return target.lower().startswith(("rtsp://", "rtsps://"))


def _options(settings: schema.CameraConfig, url: str, where: str) -> dict[str, str]:
    """Return FFmpeg's options for a network stream."""
    options: dict[str, str] = {}
    if tls.is_secure(url):
        tls.context(settings.ca_file, where)  # refuses a missing file now
    if not _is_rtsp(url):
        # Only probing identifies the format; FFmpeg's default of 5 s is longer than our default timeout.
        options["analyzeduration"] = "1000000"
        options["format_whitelist"] = FORMATS
        options["protocol_whitelist"] = _PROTOCOLS[url.partition("://")[0].lower()]
        if url.lower().startswith("udp://"):
            # A sender continues while this process is delayed: losing data that no longer fits is not a fatal error.
            options["overrun_nonfatal"] = "1"
        return options
    return options | {
        # RTP over UDP would bypass the encryption.
        "rtsp_transport": "tcp" if tls.is_secure(url) else settings.rtsp_transport,
        "allowed_media_types": "video",
        # The session description names the codec, so the probing of a second or more is not needed.
        "analyzeduration": "0",
        "probesize": "32",
    }
