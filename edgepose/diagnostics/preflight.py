"""Everything that can be found wrong before anything runs: what `edgepose check` and `edgepose doctor` look at."""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepose.capture.source import path_of, redact
from edgepose.config.schema import CameraConfig, Config, MonitoringConfig, MqttConfig
from edgepose.daemon.monitoring import check_library
from edgepose.errors import ConfigError, EdgeposeError, OutputError
from edgepose.model.file import named_model
from edgepose.mqtt.credentials import BrokerSettings
from edgepose.validation.output_paths import clashes, unwritable, written
from edgepose.validation.sources import look


@dataclass(frozen=True, slots=True)
class CheckResult:
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


def findings(config: Config) -> Iterator[CheckResult]:
    """Looks at the files that a configuration names, without opening a connection."""
    yield _model(config)
    if config.refine.people:
        yield _refiner(config)
    if not config.cameras:
        yield CheckResult("cameras", False, "none are configured; expected at least one under `cameras`", 78)
    for name, camera in config.cameras.items():
        yield _camera(name, camera)
    yield from _zones(config)
    if config.mqtt.enabled:
        yield _mqtt(config.mqtt)
    if config.monitoring.enabled:
        yield _observe(config.monitoring)
    yield from _places(config)


def _places(config: Config) -> Iterator[CheckResult]:
    """What is written, and where."""
    clashing = dict(clashes(config))
    for key, path in written(config):
        if key in clashing:
            yield CheckResult(key, False, clashing[key], ConfigError.exit_code)
        elif (problem := unwritable(key, path)) is not None:
            yield CheckResult(key, False, problem, OutputError.exit_code)
        else:
            yield CheckResult(key, True, str(path))


def _model(config: Config) -> CheckResult:
    try:
        model = named_model(config.model.path, "pose")
        long_side = model.info.long_side(config.model.input_size)
    except EdgeposeError as error:
        return CheckResult("model", False, str(error), error.exit_code)
    return CheckResult("model", True, f"{model.path} ({model.info.precision}, {long_side} px, sha256 {model.sha256[:12]})")


def _refiner(config: Config) -> CheckResult:
    try:
        model = named_model(config.refine.path, "refine")
    except EdgeposeError as error:
        return CheckResult("refiner", False, str(error), error.exit_code)
    budget = f", within {config.refine.budget_ms:g} ms" if config.refine.budget_ms else ""
    what = f"{model.info.precision}, {model.info.input_size} px, sha256 {model.sha256[:12]}"
    return CheckResult("refiner", True, f"{model.path} ({what}), up to {config.refine.people} people a frame{budget}")


def _camera(name: str, camera: CameraConfig) -> CheckResult:
    what = f"camera {name}"
    try:
        awaited = look(name, camera)
    except EdgeposeError as error:
        return CheckResult(what, False, str(error), error.exit_code)
    if awaited is not None:
        return CheckResult(what, True, f"{awaited}; the daemon starts without it and tries again", note=True)
    path = path_of(camera.source)
    return CheckResult(what, True, f"{redact(camera.source)} (not contacted)" if path is None else str(path))


def _zones(config: Config) -> Iterator[CheckResult]:
    """Zones that nothing looks at."""
    off = [key for key, on in (("events.enabled", config.events.enabled), ("track.enabled", config.track.enabled)) if not on]
    zoned = [name for name, camera in config.cameras.items() if camera.zones]
    if off and zoned:
        is_off = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} false"
        yield CheckResult("zones", True, f"those of {', '.join(zoned)} have no effect while {is_off}", note=True)


def broker_in_words(mqtt: MqttConfig) -> str:
    """Where the broker is and how it is spoken to; ConfigError where the password or a certificate cannot be read."""
    settings = BrokerSettings.read(mqtt)
    login = "with a password" if settings.password is not None else "as anybody" if settings.username is None else "without a password"
    return f"{settings.host}:{settings.port}, {login}, {'encrypted' if settings.tls else 'in the clear'}"


def _mqtt(mqtt: MqttConfig) -> CheckResult:
    try:
        return CheckResult("mqtt", True, f"{broker_in_words(mqtt)} (not contacted)")
    except EdgeposeError as error:
        return CheckResult("mqtt", False, str(error), error.exit_code)


def _observe(settings: MonitoringConfig) -> CheckResult:
    try:
        check_library()
    except EdgeposeError as error:
        return CheckResult("observe", False, str(error), error.exit_code)
    return CheckResult("observe", True, f"/metrics and /healthz on {settings.host} port {settings.port} (not tried)")
