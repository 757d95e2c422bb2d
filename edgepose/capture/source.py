"""Sources of frames: their protocol, and the one function that opens what a configuration names."""

import re
import stat
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from edgepose.capture.files.listing import HEIC_SUFFIXES, IMAGE_SUFFIXES, is_pattern
from edgepose.capture.gstreamer import launch as pipelines
from edgepose.capture.images import ImageSource
from edgepose.capture.pyav import PyAvSource
from edgepose.capture.readers import choose_reader
from edgepose.capture.redact import show
from edgepose.capture.worker import WorkerTimeoutError, call_within
from edgepose.config import schema
from edgepose.errors import SourceError
from edgepose.frame import Frame

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "rtp", "tcp")
_LISTENING_SCHEMES = ("udp", "rtp", "srt")

STANDARD_INPUT = "-"
"""The source that means standard input, a pipe."""

_VIDEO_DEVICE = re.compile(r"/dev/video\d+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Source(Protocol):
    """A source of frames; `read` by one thread, `close` by any.

    Attributes:
        camera: name in the configuration.
        url: URL, pipeline or path, redacted.
        live: whether frames arrive at their own rate, so that a slow reader has to skip some; otherwise every frame is delivered.
        width, height: size of the last frame in pixels, 0 before the first; it may change from frame to frame.
        corrupt_frames: number of frames so far that could not be decoded completely.
        stale_frames: number of frames so far that arrived too late to be used.
        superseded_frames: number of frames so far that a newer one replaced before they were read.
    """

    camera: str
    url: str
    live: bool
    width: int
    height: int

    @property
    def corrupt_frames(self) -> int:
        """Number of frames so far that could not be decoded completely."""

    @property
    def stale_frames(self) -> int:
        """Number of frames so far that arrived too late to be used."""

    @property
    def superseded_frames(self) -> int:
        """Number of frames so far that a newer one replaced before they were read."""

    @property
    def patience_s(self) -> float:
        """How much longer than `read_timeout_s` a `read` may wait, seconds."""

    def read(self) -> Frame:
        """Return the next frame; waits at most `read_timeout_s`, and with `realtime` until the frame of a file is due.

        Raises:
            EndOfStream: a finite source has ended.
            SourceError: no more frames arrive; `cause` says why. The source is closed then.
        """

    def close(self) -> None:
        """Close the source; a `read` in another thread ends soon with the cause `closed`. Idempotent."""


def path_of(source: str) -> Path | None:
    """Return the file or folder that a camera's source names, None where it is a pipeline or a URL other than file://."""
    if pipelines.is_pipeline(source):
        return None
    if source == STANDARD_INPUT:
        return Path("/dev/stdin")
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Path(source).expanduser()
    return Path(unquote(urlsplit(source).path)) if scheme[1].lower() == "file" else None


def open_source(name: str, camera: schema.CameraConfig, *, epoch: int = 0, once: bool = False) -> Source:
    """Open what a camera's configuration names; waits at most `open_timeout_s`.

    Args:
        name: name of the camera.
        camera: configuration of the camera.
        epoch: number of times the camera was opened before.
        once: whether the URL of a picture is a file with one frame, rather than a camera.

    Raises:
        SourceError: it cannot be opened; `cause` is one of `refused`, `not_found`, `unauthorized`, `timeout`, `no_route`, `tls`,
            `forbidden`, `too_large`, `no_video`, `unsupported` and `failed`.
    """
    path = path_of(camera.source)
    if path is not None:
        return _open_path(name, camera, path, epoch)
    invalid = validation_error(camera.source)
    if invalid is not None:
        raise SourceError(f"camera {name}: {invalid}", "unsupported")
    if choose_reader(camera).name == "gstreamer":
        from edgepose.capture.gstreamer.source import GStreamerSource  # loaded only where it is needed

        return GStreamerSource(name, camera, epoch=epoch)
    return PyAvSource(name, camera, camera.source, network=True, epoch=epoch, once=once)


def validation_error(source: str) -> str | None:
    """Return why a URL or pipeline can never be opened, in one sentence with redacted; None where it is valid."""
    scheme = "gst" if pipelines.is_pipeline(source) else source.partition("://")[0].lower()
    if scheme in NETWORK_SCHEMES:
        return _url_error(source)
    if scheme == "gst" or scheme in pipelines.SCHEMES:
        return pipelines.validation_error(source)
    known = ", ".join(f"{known}://" for known in NETWORK_SCHEMES + pipelines.SCHEMES)
    return f"{show(source)} begins with {scheme}://; expected {known}, gst: and a pipeline, a video file, an image or a folder of images"


def _url_error(url: str) -> str | None:
    """Return why a network URL can never be opened, in one sentence with redacted; None where it is valid."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text is not shown: where '/' in a password ends the address, the "port" is part of the password
        host, port = "", 0
    if host is None and (port is None or parts.scheme not in _LISTENING_SCHEMES):
        return f"{show(url)} names no host; expected a URL such as rtsp://camera.local/stream"
    if port == 0:
        return (
            f"{show(url)} has no valid address; expected a port from 1 to 65535, an IPv6 address in brackets, "
            "and '/', '?' and '#' in a password written as %2F, %3F and %23"
        )
    return None


def missing_file(path: Path) -> str:
    """Return that a file does not exist, in one sentence with what the user may have meant."""
    if str(path).isdecimal():
        return f"{path} does not exist; a camera with this number is v4l2:///dev/video{path}"
    if _VIDEO_DEVICE.fullmatch(str(path)):
        return f"{path} does not exist; expected a camera that is connected, as v4l2://{path}"
    if is_pattern(path):
        return f"{path} matches no file; expected a pattern such as 'frames/*.png' or frame_%04d.png"
    return f"{path} does not exist; expected a video file, an image or a folder of images"


def _open_path(name: str, camera: schema.CameraConfig, path: Path, epoch: int) -> Source:
    try:  # with a deadline: a network file system may never respond
        mode = call_within(f"capture-{name}", lambda: path.stat().st_mode, camera.open_timeout_s)
        path_is_folder = stat.S_ISDIR(mode)
        if _VIDEO_DEVICE.fullmatch(str(path)) and stat.S_ISCHR(mode):
            raise SourceError(f"camera {name}: {path} is a device; expected it as v4l2://{path}", "unsupported")
    except WorkerTimeoutError as error:
        raise SourceError(f"camera {name}: {path} could not be checked within {camera.open_timeout_s:g} s", "timeout") from error
    except PermissionError as error:
        raise SourceError(f"camera {name}: {path} is not readable", "unauthorized") from error
    except OSError as error:
        if not is_pattern(path):
            raise SourceError(f"camera {name}: {missing_file(path)}", "not_found") from error
        path_is_folder = True  # as many images as it matches
    if path_is_folder or path.suffix.lower() in (*IMAGE_SUFFIXES, *HEIC_SUFFIXES):
        return ImageSource(name, camera, path, epoch=epoch)
    return PyAvSource(name, camera, str(path), network=False, epoch=epoch)
