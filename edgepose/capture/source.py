"""Where pictures come from: one protocol, and the one function that opens whatever a configuration names."""

import re
import stat
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from edgepose.capture.gstreamer import launch as pipelines
from edgepose.capture.images import IMAGE_SUFFIXES, ImageSource
from edgepose.capture.pyav import PyAvSource
from edgepose.capture.readers import reader_of
from edgepose.capture.redact import redact
from edgepose.capture.worker import WorkerTimeoutError, call_within
from edgepose.config import schema
from edgepose.errors import SourceError
from edgepose.frame import Frame

__all__ = ["Source", "open_source", "path_of", "redact", "source_problem"]

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "rtp", "tcp")
_LISTENING_SCHEMES = ("udp", "rtp", "srt")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Source(Protocol):
    """Something that gives pictures; `read` by one thread, `close` by any.

    Attributes:
        camera: name in the configuration.
        url: where the pictures come from, credentials redacted.
        live: whether pictures come at their own pace, so that slow readers have to skip some; else every picture is given.
        width, height: of the last picture in pixels; 0 before the first. They may change from picture to picture.
        corrupt_frames: number of pictures so far that could not be decoded whole.
        stale_frames: number of pictures so far that came too late to be shown.
        superseded_frames: number of pictures so far that a newer one replaced before anybody read them.
    """

    camera: str
    url: str
    live: bool
    width: int
    height: int

    @property
    def corrupt_frames(self) -> int:
        """Number of pictures so far that could not be decoded whole."""

    @property
    def stale_frames(self) -> int:
        """Number of pictures so far that came too late to be shown."""

    @property
    def superseded_frames(self) -> int:
        """Number of pictures so far that a newer one replaced before anybody read them."""

    def read(self) -> Frame:
        """Return the next picture; waits `read_timeout_s` at most, and for a paced file until it is due.

        Raises:
            EndOfStream: a finite source is over.
            SourceError: no picture comes any more; `cause` says why. The source is closed then.
        """

    def close(self) -> None:
        """Close the source; a `read` in another thread ends soon with the cause `closed`. May be called again."""


def path_of(source: str) -> Path | None:
    """The file or folder that a camera's source names, None where it is a URL of another kind or a pipeline."""
    if pipelines.is_pipeline(source):
        return None
    scheme = _SCHEME.match(source)
    if scheme is None:
        return Path(source).expanduser()
    return Path(unquote(urlsplit(source).path)) if scheme[1].lower() == "file" else None


def open_source(name: str, camera: schema.CameraConfig, *, epoch: int = 0) -> Source:
    """Open what a camera's configuration names; waits `open_timeout_s` at most.

    Args:
        name: of the camera.
        camera: its configuration.
        epoch: number of times it was opened before.

    Raises:
        SourceError: it cannot be opened; `cause` is one of `refused`, `not_found`, `unauthorized`, `timeout`, `no_route`, `tls`,
            `no_video`, `unsupported` and `failed`.
    """
    path = path_of(camera.source)
    if path is not None:
        return _open_path(name, camera, path, epoch)
    problem = source_problem(camera.source)
    if problem is not None:
        raise SourceError(f"camera {name}: {problem}", "unsupported")
    if reader_of(camera).name == "gstreamer":
        from edgepose.capture.gstreamer.source import GStreamerSource  # only where something wants it

        return GStreamerSource(name, camera, epoch=epoch)
    return PyAvSource(name, camera, camera.source, network=True, epoch=epoch)


def source_problem(source: str) -> str | None:
    """What makes a source that is no path one that can never be opened, in one sentence with credentials redacted; None where nothing."""
    scheme = "gst" if pipelines.is_pipeline(source) else source.partition("://")[0].lower()
    if scheme in NETWORK_SCHEMES:
        return address_problem(source)
    if scheme == "gst" or scheme in pipelines.SCHEMES:
        return pipelines.problem(source)
    known = ", ".join(f"{known}://" for known in NETWORK_SCHEMES + pipelines.SCHEMES)
    return f"{redact(source)} begins with {scheme}://; expected {known}, gst: and a pipeline, a video file, an image or a folder of images"


def address_problem(url: str) -> str | None:
    """What makes a network URL one that can never be opened, in one sentence with credentials redacted; None where nothing does."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text is not shown: where '/' in a password ends the address, the "port" is a part of the password
        host, port = "", 0
    if host is None and (port is None or parts.scheme not in _LISTENING_SCHEMES):
        return f"{redact(url)} names no host; expected such as rtsp://camera.local/stream"
    if port == 0:
        return (
            f"{redact(url)} names no address that can be; expected a port from 1 to 65535, an IPv6 address in brackets, "
            "and '/', '?' and '#' of a password written %2F, %3F and %23"
        )
    return None


def _open_path(name: str, camera: schema.CameraConfig, path: Path, epoch: int) -> Source:
    try:  # with a deadline: a file system at the end of a network may never answer
        path_is_folder = call_within(f"capture-{name}", lambda: stat.S_ISDIR(path.stat().st_mode), camera.open_timeout_s)
    except WorkerTimeoutError as error:
        raise SourceError(f"camera {name}: {path} could not be looked at within {camera.open_timeout_s:g} s", "timeout") from error
    except PermissionError as error:
        raise SourceError(f"camera {name}: {path} may not be read", "unauthorized") from error
    except OSError as error:
        raise SourceError(
            f"camera {name}: {path} does not exist; a video file, an image or a folder of images is accepted", "not_found"
        ) from error
    if path_is_folder or path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageSource(name, camera, path, epoch=epoch)
    return PyAvSource(name, camera, str(path), network=False, epoch=epoch)
