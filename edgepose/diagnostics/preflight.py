"""Preflight checks: everything that can be found wrong before anything runs, for `edgepose check` and `edgepose doctor`."""

from collections.abc import Iterator
from dataclasses import dataclass

from edgepose.capture.redact import describe
from edgepose.capture.source import path_of
from edgepose.config.schema import CameraConfig, Config, MonitoringConfig, MqttConfig
from edgepose.daemon.monitoring import check_library, read_tls, read_token
from edgepose.encryption.files import use_files
from edgepose.encryption.start import configured_files
from edgepose.engine.backend import pose_model, refiner_model, refuse_broken
from edgepose.errors import ConfigError, EdgeposeError, OutputError
from edgepose.model.file import ModelFile
from edgepose.model.shipped import is_shipped
from edgepose.mqtt.settings import BrokerSettings, PublisherSettings
from edgepose.storage.areas_file import with_drawn_areas
from edgepose.validation.credentials import exposed_credentials
from edgepose.validation.output_paths import clashes, write_error, written_paths
from edgepose.validation.sources import check_source
from edgepose.webhook.settings import WebhookSettings


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        what: what was checked, such as `model` or `camera front`.
        good: whether it is as expected.
        detail: what was found, in one sentence; where it is not good, also what is accepted.
        exit_code: exit code of a program that fails because of it, 0 where it is good.
        note: whether it is good but deserves attention: the daemon starts, and something will not work as one may expect.
    """

    what: str
    good: bool
    detail: str
    exit_code: int = 0
    note: bool = False


def preflight_checks(config: Config) -> Iterator[CheckResult]:
    """Check what a configuration names (model, cameras, credentials, output paths) without opening a connection.

    A model that is not part of the package runs once, on a gray image.
    """
    yield _model(config)
    if config.refine.people:
        yield _refiner(config)
    if not config.cameras:
        yield CheckResult("cameras", False, "none are configured; expected at least one under `cameras`", 78)
    for name, camera in config.cameras.items():
        yield _camera(name, camera)
    yield from _zones(config)
    yield from _stored(config)
    if config.mqtt.enabled:
        yield _mqtt(config)
    if config.webhook.url is not None:
        yield _webhook(config)
    for key, sentence in exposed_credentials(config):
        yield CheckResult(key, True, sentence, note=True)
    if config.monitoring.enabled:
        yield _monitoring(config.monitoring)
    yield from _output_paths(config)


def describe_broker(mqtt: MqttConfig) -> str:
    """Return the broker's address, login and encryption in words; ConfigError where the password or a certificate cannot be read."""
    settings = BrokerSettings.read(mqtt)
    login = "with a password" if settings.password is not None else "anonymous" if settings.username is None else "without a password"
    return f"{', '.join(mqtt.hosts)}:{settings.port}, {login}, {'encrypted' if settings.tls else 'unencrypted'}"


def _model(config: Config) -> CheckResult:
    try:
        model = pose_model(config.model)
        long_side_px = model.info.long_side(config.model.input_size)
        _try_out(model, config)
    except EdgeposeError as error:
        return CheckResult("model", False, str(error), error.exit_code)
    return CheckResult("model", True, f"{model.where} ({model.info.precision}, {long_side_px} px, sha256 {model.sha256[:12]})")


def _refiner(config: Config) -> CheckResult:
    try:
        model = refiner_model(config.refine.path, config.model)
        _try_out(model, config)
    except EdgeposeError as error:
        return CheckResult("refiner", False, str(error), error.exit_code)
    budget = f", within {config.refine.budget_ms:g} ms" if config.refine.budget_ms else ", while no live frame waits"
    height, width = model.info.crop_shape
    properties = f"{model.info.precision}, {width}x{height} px, sha256 {model.sha256[:12]}"
    return CheckResult("refiner", True, f"{model.where} ({properties}), up to {config.refine.people} people per frame{budget}")


def _try_out(model: ModelFile, config: Config) -> None:
    """Run somebody else's network once, since much of what can be wrong with it is not in its metadata."""
    if not is_shipped(model.path):
        refuse_broken(model, config.model)


def _camera(name: str, camera: CameraConfig) -> CheckResult:
    what = f"camera {name}"
    try:
        lacking = check_source(name, camera)
    except EdgeposeError as error:
        return CheckResult(what, False, str(error), error.exit_code)
    if lacking is not None:
        return CheckResult(what, True, f"{lacking}; the daemon starts without it and tries again", note=True)
    path = path_of(camera.source)
    return CheckResult(what, True, f"{describe(camera.source)} (not contacted)" if path is None else str(path))


def _zones(config: Config) -> Iterator[CheckResult]:
    """Yield a note where zones are configured but events or tracking are off."""
    off = [key for key, on in (("events.enabled", config.events.enabled), ("track.enabled", config.track.enabled)) if not on]
    with_zones = [name for name, camera in config.cameras.items() if camera.zones]
    if off and with_zones:
        is_off = f"{' and '.join(off)} {'is' if len(off) == 1 else 'are'} false"
        yield CheckResult("zones", True, f"the zones of {', '.join(with_zones)} have no effect while {is_off}", note=True)


def _stored(config: Config) -> Iterator[CheckResult]:
    """Yield a result for the key of stored files, and one for the areas that were drawn on the live page."""
    try:
        files = configured_files(config)
    except EdgeposeError as error:
        yield CheckResult("encryption", False, str(error), error.exit_code)
        return
    if config.encryption.enabled:
        yield CheckResult("encryption", True, f"the key in {config.encryption.key} can be used")
    if not config.web.enabled:
        return
    before = use_files(files)
    try:
        drawn = with_drawn_areas(config)
    except EdgeposeError as error:
        yield CheckResult("drawn areas", False, str(error), error.exit_code)
    else:
        changed = [name for name, camera in drawn.cameras.items() if camera != config.cameras[name]]
        yield CheckResult("drawn areas", True, f"of {', '.join(changed)}" if changed else "none")
    finally:
        use_files(before)


def _mqtt(config: Config) -> CheckResult:
    try:
        PublisherSettings.of(config)
        return CheckResult("mqtt", True, f"{describe_broker(config.mqtt)} (not contacted)")
    except EdgeposeError as error:
        return CheckResult("mqtt", False, str(error), error.exit_code)


def _webhook(config: Config) -> CheckResult:
    try:
        settings = WebhookSettings.of(config)
    except EdgeposeError as error:
        return CheckResult("webhook", False, str(error), error.exit_code)
    assert settings is not None  # there is a URL
    signed = "signed" if settings.secret is not None else "not signed"
    return CheckResult("webhook", True, f"events to {settings.origin}, {signed} (not contacted)")


def _monitoring(settings: MonitoringConfig) -> CheckResult:
    try:
        check_library()
        tls, token = read_tls(settings), read_token(settings)
    except EdgeposeError as error:
        return CheckResult("monitoring", False, str(error), error.exit_code)
    security = "".join((", encrypted" if tls else "", ", with a token" if token else ""))
    return CheckResult("monitoring", True, f"/metrics and /healthz on {settings.host} port {settings.port}{security} (not opened)")


def _output_paths(config: Config) -> Iterator[CheckResult]:
    """Yield a result for each file and folder that the daemon writes."""
    clashing = dict(clashes(config))
    for named, path in written_paths(config):
        key = ".".join(named.keys)
        if key in clashing:
            yield CheckResult(key, False, clashing[key], ConfigError.exit_code)
        elif (sentence := write_error(named, path)) is not None:
            yield CheckResult(key, False, sentence, OutputError.exit_code)
        else:
            yield CheckResult(key, True, str(path))
