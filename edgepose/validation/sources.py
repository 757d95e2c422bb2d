"""Camera sources: which can never be opened and are refused before anything runs, and which the daemon starts without and waits for."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgepose.capture import tls
from edgepose.capture.failures import unknown_protocol
from edgepose.capture.files.listing import is_pattern, matching
from edgepose.capture.pyav import supports_scheme
from edgepose.capture.readers import choose_reader
from edgepose.capture.redact import show
from edgepose.capture.source import missing_file, path_of, validation_error
from edgepose.capture.worker import WorkerTimeoutError, call_within
from edgepose.config.schema import CameraConfig
from edgepose.errors import ConfigError, EdgeposeError, SourceError

_MAY_CHANGE = ("not_found", "unauthorized")  # of a device: it may be plugged in later, and its file gets its group a moment after that


def check_source(name: str, camera: CameraConfig) -> str | None:
    """Return what a camera still lacks but may get later (a device, a file system that responds), None where nothing is known.

    No connection is opened. Waits at most `open_timeout_s`.

    Raises:
        EdgeposeError: the source can never be opened; a sentence without the camera's name.
    """
    path = path_of(camera.source)
    if path is not None:
        return _check_path(name, path, camera.open_timeout_s)
    invalid = validation_error(camera.source)
    if invalid is not None:
        raise ConfigError(invalid)
    if tls.is_secure(camera.source):
        try:
            tls.options(camera.ca_file, show(camera.source))
        except SourceError as error:
            raise ConfigError(str(error)) from error
    if choose_reader(camera).name != "gstreamer":
        if not supports_scheme(camera.source.partition("://")[0].lower()):
            raise unknown_protocol(camera.source, show(camera.source))
        return None
    from edgepose.capture.gstreamer.source import opening_error  # loaded only where it is needed

    unmet = opening_error(name, camera)
    if unmet is None:
        return None
    sentence = str(unmet).removeprefix(f"camera {name}: ")
    if isinstance(unmet, SourceError):
        if camera.source.lower().startswith("v4l2:") and unmet.cause in _MAY_CHANGE:
            return sentence
        raise SourceError(sentence, unmet.cause)
    raise type(unmet)(sentence)


def refuse_impossible(cameras: Mapping[str, CameraConfig], names: Iterable[str] | None = None) -> None:
    """Raise EdgeposeError where a camera can never be opened.

    Args:
        cameras: configurations by name.
        names: cameras to check; None checks all.
    """
    for name in cameras if names is None else names:
        try:
            check_source(name, cameras[name])
        except SourceError as error:
            raise SourceError(f"camera {name}: {error}", error.cause) from error
        except EdgeposeError as error:
            raise type(error)(f"camera {name}: {error}") from error


def _check_path(name: str, path: Path, timeout_s: float) -> str | None:
    try:  # with a deadline: a network file system may never respond
        exists, readable = call_within(f"check-{name}", lambda: (path.exists(), os.access(path, os.R_OK)), timeout_s)
    except WorkerTimeoutError:
        return f"{path} could not be checked within {timeout_s:g} s; expected a file system that responds"
    if not exists and not (is_pattern(path) and matching(path)):
        raise SourceError(missing_file(path), "not_found")
    if exists and not readable:
        raise SourceError(f"{path} is not readable by this user; expected read permission", "unauthorized")
    return None
