"""Everything that can be found wrong before anything runs: what `edgepose check` and `edgepose doctor` look at."""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepose.capture.source import path_of, redact
from edgepose.config.schema import Camera, Config, Mqtt, Observe
from edgepose.daemon.observe import check_library
from edgepose.errors import ConfigError, EdgeposeError, OutputError
from edgepose.model.file import named_model
from edgepose.mqtt.credentials import Access
from edgepose.validation.output_paths import clashes, unwritable, written
from edgepose.validation.sources import look


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: such as `model` or `camera front`.
        good: whether it is as it should be.
        detail: what was found, one sentence; where it is not good also what would be accepted.
        exit_code: what a program that trips over it ends with, 0 where it is good.
        note: whether it is good and worth a word all the same: the daemon starts, and something will not be as it may be expected.
    """

    what: str
    good: bool
    detail: str
    exit_code: int = 0
    note: bool = False


def findings(config: Config) -> Iterator[Finding]:
    """Looks at the files that a configuration names, without opening a connection."""
    yield _model(config)
    if config.refine.people:
        yield _refiner(config)
    if not config.cameras:
        yield Finding("cameras", False, "none are configured; expected at least one under `cameras`", 78)
    for name, camera in config.cameras.items():
        yield _camera(name, camera)
    yield from _zones(config)
    if config.mqtt.enabled:
        yield _mqtt(config.mqtt)
    if config.observe.enabled:
        yield _observe(config.observe)
    yield from _places(config)


def _places(config: Config) -> Iterator[Finding]:
    """What is written, and where."""
    clashing = dict(clashes(config))
    for key, path in written(config):
        if key in clashing:
            yield Finding(key, False, clashing[key], ConfigError.exit_code)
        elif (problem := unwritable(key, path)) is not None:
            yield Finding(key, False, problem, OutputError.exit_code)
        else:
            yield Finding(key, True, str(path))


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
    try:
        awaited = look(name, camera)
    except EdgeposeError as error:
        return Finding(what, False, str(error), error.exit_code)
    if awaited is not None:
        return Finding(what, True, f"{awaited}; the daemon starts without it and tries again", note=True)
    path = path_of(camera.source)
    return Finding(what, True, f"{redact(camera.source)} (not contacted)" if path is None else str(path))


def _zones(config: Config) -> Iterator[Finding]:
    """Zones that nothing looks at."""
    off = [key for key, on in (("events.enabled", config.events.enabled), ("track.enabled", config.track.enabled)) if not on]
    zoned = [name for name, camera in config.cameras.items() if camera.zones]
    if off and zoned:
        is_off = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} false"
        yield Finding("zones", True, f"those of {', '.join(zoned)} have no effect while {is_off}", note=True)


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
