"""Video files and network streams through PyAV."""

import errno
import time
from functools import cache
from pathlib import Path

import av

from edgepose.capture import tls
from edgepose.capture.failures import source_error, unknown_protocol, unresolved_host
from edgepose.capture.redact import redact
from edgepose.capture.stream import Stream
from edgepose.capture.video import VideoSource
from edgepose.config import schema
from edgepose.errors import SourceError

_GOODBYE_S = 0.5
"""How long `close` waits for a thread to take leave of its server: cameras keep a session that nobody ends."""


@cache
def speaks(scheme: str) -> bool:
    """Whether this build of FFmpeg reads a kind of URL; those that every build reads are not asked for."""
    if scheme != "srt":
        return True
    try:
        av.open("srt://127.0.0.1:0").close()  # an address that cannot be: it is refused before anything is sent
    except av.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError):
        pass
    return True


class PyAvSource(VideoSource):
    """A source that FFmpeg reads: a video file, or a stream over RTSP, HTTP, RTMP, SRT, UDP, RTP or TCP.

    Args:
        camera: name in the configuration.
        settings: of this camera.
        target: URL, or path of a file.
        network: whether `target` is a URL.
        epoch: number of times this camera was opened before.

    Raises:
        SourceError: it cannot be opened, within `open_timeout_s`.
    """

    def __init__(self, camera: str, settings: schema.CameraConfig, target: str, *, network: bool, epoch: int = 0) -> None:
        url = redact(target)
        where = f"camera {camera}: {url}"
        stream = (_NetworkStream if network else Stream)(
            # The prefix keeps FFmpeg from seeing a protocol in a file name with a colon.
            target if network else f"file:{target}",
            _options(settings, target, where) if network else {},
            where,
            # PyAV's time-outs only end the thread; the wait for it has the deadline. So that the deadline speaks first: a little more.
            open_timeout_s=settings.open_timeout_s + 1,
            read_timeout_s=settings.read_timeout_s,
            is_file=not network and Path(target).is_file(),  # not a pipe
            low_delay=network,
        )
        # A server that plays a file through RTSP is a camera to us; a file on a web server is a file.
        endless = network and not target.lower().startswith(("http://", "https://"))
        super().__init__(camera, url, settings, stream, epoch=epoch, endless=endless, goodbye_s=_GOODBYE_S)

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        return source_error(error, self._where, opening=opening)


class _NetworkStream(Stream):
    """Finds out what was the matter where FFmpeg does not say; in the worker's thread, since asking takes its time too."""

    def open(self) -> None:
        """Open the stream."""
        try:
            super().open()
        except av.HTTPOtherClientError:
            if self.options.pop("allowed_media_types", None) is None:
                raise
            self._open_whatever_there_is()
        except av.ProtocolNotFoundError as failure:
            raise unknown_protocol(self.target, self.where) from failure
        except av.OSError as failure:
            if failure.errno != errno.EIO:
                raise
            told = unresolved_host(self.target, self.where)
            if told is None and tls.is_secure(self.target):
                told = tls.refused(self.target, self.options["ca_file"], self.where)
            raise (told or failure) from failure

    def _open_whatever_there_is(self) -> None:
        """Of a server without video FFmpeg had wanted nothing, which is refused; now it sees what is there."""
        for wait_s in (0.1, 0.4):
            try:
                super().open()
            except av.HTTPServerError:  # still busy taking leave of us
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
        # Only probing finds out what it is; FFmpeg's own 5 s are as long as our patience.
        options["analyzeduration"] = "1000000"
        if url.lower().startswith("udp://"):
            # While we were held up a sender goes on: what does not fit any more is lost, as on every radio link, and not the end.
            options["overrun_nonfatal"] = "1"
        return options
    return options | {
        # RTP over UDP would pass beside the encryption.
        "rtsp_transport": "tcp" if tls.is_secure(url) else settings.rtsp_transport,
        "allowed_media_types": "video",
        # The session description names the codec: no probing, which takes a second and more.
        "analyzeduration": "0",
        "probesize": "32",
    }
