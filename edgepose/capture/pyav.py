"""Video files and network streams through PyAV."""

from edgepose import config
from edgepose.capture.failures import source_error, unresolved_host
from edgepose.capture.redact import redact
from edgepose.capture.stream import Stream
from edgepose.capture.video import VideoSource
from edgepose.errors import SourceError

_GOODBYE_S = 0.5
"""How long `close` waits for a thread to take leave of its server: cameras keep a session that nobody ends."""


class PyAvSource(VideoSource):
    """A source that FFmpeg reads: a video file, an RTSP or HTTP stream.

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
        self._target = target
        self._network = network
        url = redact(target)
        stream = Stream(
            # The prefix keeps FFmpeg from seeing a protocol in a file name with a colon.
            target if network else f"file:{target}",
            _options(settings, target) if network else {},
            f"camera {camera}: {url}",
            # PyAV's time-outs only end the thread; the wait for it has the deadline. So that the deadline speaks first: a little more.
            open_timeout_s=settings.open_timeout_s + 1,
            read_timeout_s=settings.read_timeout_s,
            low_delay=network,
        )
        # An RTSP server that plays a file is a camera to us; a file on a web server is a file.
        super().__init__(camera, url, settings, stream, epoch=epoch, endless=_is_rtsp(target), goodbye_s=_GOODBYE_S)

    def _failure(self, error: Exception, opening: bool) -> SourceError:
        if opening and self._network and (unresolved := unresolved_host(error, self._target, self._where)):
            return unresolved
        return source_error(error, self._where, opening=opening)


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
