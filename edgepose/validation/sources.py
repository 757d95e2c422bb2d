"""Whether a camera can ever be opened: what is refused before anything runs, and what the daemon starts without and waits for."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgepose.capture import tls
from edgepose.capture.failures import unknown_protocol
from edgepose.capture.gstreamer.source import unusable
from edgepose.capture.pyav import speaks
from edgepose.capture.readers import reader_of
from edgepose.capture.source import path_of, redact, source_problem
from edgepose.capture.worker import WorkerTimeoutError, call_within
from edgepose.config.schema import CameraConfig
from edgepose.errors import ConfigError, EdgeposeError, SourceError

_MAY_CHANGE = ("not_found", "unauthorized")  # of a device: it is plugged in, and its file gets its group a moment later


def look(name: str, camera: CameraConfig) -> str | None:
    """What a camera wants that is not there now but may come: a device, a file system that answers; None where nothing is known.

    No connection is opened; waits `open_timeout_s` at most.

    Raises:
        EdgeposeError: it can never be opened; a sentence without the camera's name.
    """
    path = path_of(camera.source)
    if path is not None:
        return _look_at(name, path, camera.open_timeout_s)
    problem = source_problem(camera.source)
    if problem is not None:
        raise ConfigError(problem)
    if tls.is_secure(camera.source):
        try:
            tls.options(camera.ca_file, redact(camera.source))
        except SourceError as error:
            raise ConfigError(str(error)) from error
    if reader_of(camera).name != "gstreamer":
        if not speaks(camera.source.partition("://")[0].lower()):
            raise unknown_protocol(camera.source, redact(camera.source))
        return None
    lacking = unusable(name, camera)
    if lacking is None:
        return None
    sentence = str(lacking).removeprefix(f"camera {name}: ")
    if isinstance(lacking, SourceError):
        if camera.source.lower().startswith("v4l2:") and lacking.cause in _MAY_CHANGE:
            return sentence
        raise SourceError(sentence, lacking.cause)
    raise type(lacking)(sentence)


def refuse_impossible(cameras: Mapping[str, CameraConfig], names: Iterable[str] | None = None) -> None:
    """EdgeposeError where a camera can never be opened.

    Args:
        names: of those that are looked at; all of them where None.
    """
    for name in cameras if names is None else names:
        try:
            look(name, cameras[name])
        except SourceError as error:
            raise SourceError(f"camera {name}: {error}", error.cause) from error
        except EdgeposeError as error:
            raise type(error)(f"camera {name}: {error}") from error


def _look_at(name: str, path: Path, within_s: float) -> str | None:
    try:  # with a deadline: a file system at the end of a network may never answer
        there, readable = call_within(f"look-{name}", lambda: (path.exists(), os.access(path, os.R_OK)), within_s)
    except WorkerTimeoutError:
        return f"{path} could not be looked at within {within_s:g} s; expected a file system that answers"
    if not there:
        raise SourceError(f"{path} does not exist; expected a video file, an image or a folder of images", "not_found")
    if not readable:
        raise SourceError(f"{path} may not be read by this user; expected read permission", "unauthorized")
    return None
