"""Source of video files and network streams through PyAV (FFmpeg)."""

import errno
import time
from functools import cache
from pathlib import Path

import av

from edgepose.capture import tls
from edgepose.capture.failures import source_error, unknown_protocol, unresolved_host
from edgepose.capture.redact import show
from edgepose.capture.stream import Stream
from edgepose.capture.video import VideoSource
from edgepose.config import schema
from edgepose.errors import SourceError

_CLOSE_TIMEOUT_S = 0.5
"""Longest wait of `close` for the thread to end its session: cameras keep a session that is not ended."""


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

    Raises:
        SourceError: the source cannot be opened within `open_timeout_s`.
    """

    def __init__(self, camera: str, settings: schema.CameraConfig, target: str, *, network: bool, epoch: int = 0) -> None:
        url = show(target) if network else target
        where = f"camera {camera}: {url}"
        stream = (_NetworkStream if network else Stream)(
            # The prefix keeps FFmpeg from taking a file name with a colon for a URL.
            target if network else f"file:{target}",
            _options(settings, target, where) if network else {},
            where,
            # PyAV's timeouts only end the thread; the caller's deadline must expire first, so these are longer.
            open_timeout_s=settings.open_timeout_s + 1,
            read_timeout_s=settings.read_timeout_s,
            is_file=not network and Path(target).is_file(),  # not a pipe
            low_delay=network,
        )
        # A server that plays a file over RTSP counts as a camera; a file on a web server counts as a file.
        endless = network and not target.lower().startswith(("http://", "https://"))
        super().__init__(camera, url, settings, stream, epoch=epoch, endless=endless, close_timeout_s=_CLOSE_TIMEOUT_S)

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        return source_error(error, self._where, opening=opening)


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
            reason = unresolved_host(self.target, self.where)
            if reason is None and tls.is_secure(self.target):
                reason = tls.handshake_error(self.target, self.options["ca_file"], self.where)
            raise (reason or error) from error

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


def _is_rtsp(target: str) -> bool:
    return target.lower().startswith(("rtsp://", "rtsps://"))


def _options(settings: schema.CameraConfig, url: str, where: str) -> dict[str, str]:
    """Return FFmpeg's options for a network stream."""
    options = tls.options(settings.ca_file, where) if tls.is_secure(url) else {}
    if not _is_rtsp(url):
        # Only probing identifies the format; FFmpeg's default of 5 s is longer than our default timeout.
        options["analyzeduration"] = "1000000"
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
