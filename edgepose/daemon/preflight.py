"""Everything that can be found wrong before anything runs: what `edgepose check` and `edgepose doctor` look at."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepose.capture import tls
from edgepose.capture.gstreamer import unusable
from edgepose.capture.readers import reader_of
from edgepose.capture.source import path_of, redact, source_problem
from edgepose.config import Camera, Config, Mqtt, Observe
from edgepose.daemon.observe import check_library
from edgepose.daemon.places import clashes
from edgepose.errors import ConfigError, EdgeposeError, SourceError
from edgepose.model import named_model
from edgepose.output.access import Access


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: such as `model` or `camera front`.
        good: whether it is as it should be.
        detail: what was found, one sentence; where it is not good also what would be accepted.
        exit_code: what a program that trips over it ends with, 0 where it is good.
    """

    what: str
    good: bool
    detail: str
    exit_code: int = 0


def findings(config: Config) -> Iterator[Finding]:
    """Looks at the files that a configuration names, without opening a connection."""
    yield _model(config)
    if config.refine.people:
        yield _refiner(config)
    if not config.cameras:
        yield Finding("cameras", False, "none are configured; expected at least one under `cameras`", 78)
    for name, camera in config.cameras.items():
        yield _camera(name, camera)
    if config.mqtt.enabled:
        yield _mqtt(config.mqtt)
    if config.observe.enabled:
        yield _observe(config.observe)
    if config.mqtt.enabled and config.events.enabled and config.events.store is not None:
        yield _output("events.store", Path(config.events.store), is_folder=False)
    if config.mqtt.enabled and config.commands.enabled and config.commands.audit is not None:
        yield _output("commands.audit", Path(config.commands.audit), is_folder=False)
    clashing = dict(clashes(config))
    for key in ("jsonl", "csv", "video", "images"):
        path = getattr(config.files, key)
        if key in clashing:
            yield Finding(f"files.{key}", False, clashing[key], ConfigError.exit_code)
        elif path is not None:
            yield _output(f"files.{key}", Path(path), is_folder=key == "images")


def _model(config: Config) -> Finding:
    try:
        model = named_model(config.model.path, "pose")
        long_side = model.info.long_side(config.model.input_size)
    except EdgeposeError as error:
        return Finding("model", False, str(error), error.exit_code)
    return Finding("model", True, f"{model.path} ({model.info.precision}, {long_side} px, sha256 {model.sha256[:12]})")


def _refiner(config: Config) -> Finding:
    try:
        model = named_model(config.refine.path, "refine")
    except EdgeposeError as error:
        return Finding("refiner", False, str(error), error.exit_code)
    budget = f", within {config.refine.budget_ms:g} ms" if config.refine.budget_ms else ""
    what = f"{model.info.precision}, {model.info.input_size} px, sha256 {model.sha256[:12]}"
    return Finding("refiner", True, f"{model.path} ({what}), up to {config.refine.people} people a frame{budget}")


def _camera(name: str, camera: Camera) -> Finding:
    what = f"camera {name}"
    path = path_of(camera.source)
    if path is None:
        problem = source_problem(camera.source)
        if problem is not None:
            return Finding(what, False, problem, 78)
        if tls.is_secure(camera.source):
            try:
                tls.options(camera.ca_file, redact(camera.source))
            except SourceError as error:
                return Finding(what, False, str(error), 78)
        if reader_of(camera).name == "gstreamer" and (lacking := unusable(name, camera)):
            return Finding(what, False, str(lacking).removeprefix(f"{what}: "), lacking.exit_code)
        return Finding(what, True, f"{redact(camera.source)} (not contacted)")
    if not path.exists():
        return Finding(what, False, f"{path} does not exist; expected a video file, an image or a folder of images", SourceError.exit_code)
    if not os.access(path, os.R_OK):
        return Finding(what, False, f"{path} may not be read by this user; expected read permission", SourceError.exit_code)
    return Finding(what, True, str(path))


def broker_in_words(mqtt: Mqtt) -> str:
    """Where the broker is and how it is spoken to; ConfigError where the password or a certificate cannot be read."""
    access = Access.read(mqtt)
    login = "with a password" if access.password is not None else "as anybody" if access.username is None else "without a password"
    return f"{access.host}:{access.port}, {login}, {'encrypted' if access.tls else 'in the clear'}"


def _mqtt(mqtt: Mqtt) -> Finding:
    try:
        return Finding("mqtt", True, f"{broker_in_words(mqtt)} (not contacted)")
    except EdgeposeError as error:
        return Finding("mqtt", False, str(error), error.exit_code)


def _observe(settings: Observe) -> Finding:
    try:
        check_library()
    except EdgeposeError as error:
        return Finding("observe", False, str(error), error.exit_code)
    return Finding("observe", True, f"/metrics and /healthz on {settings.host} port {settings.port} (not tried)")


def _output(what: str, path: Path, *, is_folder: bool) -> Finding:
    if is_folder and path.exists() and not path.is_dir():
        return Finding(what, False, f"{path} is no folder; expected a folder or a name that is free", 74)
    existing = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
    if not path.exists() and not is_folder and existing != path.absolute().parent:
        return Finding(what, False, f"the folder of {path} does not exist; expected it to be there", 74)
    if not os.access(existing, os.W_OK):
        return Finding(what, False, f"{existing} may not be written by this user; expected write permission", 74)
    return Finding(what, True, str(path))
