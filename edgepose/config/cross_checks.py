"""Checks across keys: values that are valid alone but not together, and zones that nobody can stand in."""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from urllib.parse import urlsplit

from edgepose.config.addresses import RemoteModel, is_address, is_loopback, is_remote
from edgepose.config.reference import named_files
from edgepose.config.schema import Config
from edgepose.errors import ConfigError

Keys = tuple[str, ...]

_MINIMUM_AREA = 1e-6  # as a fraction of the frame: less than a pixel of any camera

_Corner = tuple[float, float]


def dotted(keys: Iterable[Hashable]) -> str:
    """Return the name of a key as written in `--set`."""
    return ".".join(map(str, keys)) or "the configuration"


def check_together(config: Config, file: Path | None = None) -> None:
    """Check a configuration that was changed in code.

    Args:
        config: the changed configuration.
        file: the file that it was read from, which nothing may write to.

    Raises:
        ConfigError: two values do not go together.
    """
    problems = [problem.removeprefix("default: ") for problem in cross_check(config, {}, file)]
    if problems:
        raise ConfigError("\n".join(problems))


def cross_check(config: Config, origins: Mapping[Keys, str], file: Path | None = None) -> list[str]:
    """Return one sentence for each problem.

    Args:
        config: the configuration to check.
        origins: where the value of each key comes from.
        file: the file that the configuration was read from.
    """
    checks = (
        *(_number_problems, _model_problems, _mqtt_problems, _webhook_problems),
        *(_monitoring_problems, _web_problems, _place_problems, _privacy_problems, _flight_problems, _bundle_problems),
    )
    found = (*(problem for check in checks for problem in check(config)), *_file_problems(config, file))
    return [f"{origins.get(keys, 'default')}: {dotted(keys)} {sentence}" for keys, sentence in found]


_Problems = Iterator[tuple[Keys, str]]


def _number_problems(config: Config) -> _Problems:
    if config.model.input_size % 32:
        yield ("model", "input_size"), f"is {config.model.input_size}; expected a multiple of 32"
    for name, camera in config.cameras.items():
        if camera.gray16_span is not None and not camera.gray16_span[0] < camera.gray16_span[1]:
            yield ("cameras", name, "gray16_span"), f"is {list(camera.gray16_span)}; expected the darker count first"
        if camera.reconnect_initial_s > camera.reconnect_maximum_s:
            limit = f"expected at most reconnect_maximum_s, which is {camera.reconnect_maximum_s:g}"
            yield ("cameras", name, "reconnect_initial_s"), f"is {camera.reconnect_initial_s:g}; {limit}"
    if config.track.low_score_threshold > config.pose.score_threshold:
        limit = f"expected at most pose.score_threshold, which is {config.pose.score_threshold:g}"
        yield ("track", "low_score_threshold"), f"is {config.track.low_score_threshold:g}; {limit}"


def _model_problems(config: Config) -> _Problems:
    model, remote = config.model, config.model.remote
    for keys, path in ((("model", "path"), model.path), (("refine", "path"), config.refine.path)):
        if not is_remote(path):
            continue
        if model.backend not in ("auto", "triton"):
            yield ("model", "backend"), f"is {model.backend} while {'.'.join(keys)} names a server; expected auto or triton"
        try:
            RemoteModel.parse(path)
        except ValueError as error:
            yield keys, str(error)
    if model.backend == "triton" and not is_remote(model.path):
        yield ("model", "backend"), "is triton while model.path names no server; expected model.path to be triton+grpcs://HOST/MODEL"
    if (remote.certificate_file is None) != (remote.key_file is None):
        key = "certificate_file" if remote.key_file is None else "key_file"
        yield ("model", "remote", key), "is set alone; expected certificate_file and key_file, or neither"


def _mqtt_problems(config: Config) -> _Problems:
    mqtt = config.mqtt
    if config.commands.enabled and not mqtt.enabled:  # commands arrive over MQTT only
        yield ("commands", "enabled"), "is true while mqtt.enabled is false; expected both to be true, or no commands"
    if mqtt.password_file is not None and mqtt.username is None:
        yield ("mqtt", "password_file"), "is set without mqtt.username; expected both or neither"
    if mqtt.home_assistant.enabled:
        if mqtt.encoding == "msgpack":
            yield (
                ("mqtt", "home_assistant", "enabled"),
                "is true while mqtt.encoding is msgpack, which Home Assistant cannot read; expected json or compact",
            )
        for section in ("events", "track"):
            if not getattr(config, section).enabled:  # they count the people
                yield ("mqtt", "home_assistant", "enabled"), f"is true while {section}.enabled is false; expected both to be true"
    if not mqtt.tls.enabled:
        for key in ("ca_file", "certificate_file", "key_file"):
            if getattr(mqtt.tls, key) is not None:  # a certificate without TLS is a mistake: the connection would not be encrypted
                yield ("mqtt", "tls", key), "is set while mqtt.tls.enabled is false; expected mqtt.tls.enabled to be true, or no file"
    if (mqtt.tls.certificate_file is None) != (mqtt.tls.key_file is None):
        key = "certificate_file" if mqtt.tls.key_file is None else "key_file"
        yield ("mqtt", "tls", key), "is set alone; expected certificate_file and key_file, or neither"


def _webhook_problems(config: Config) -> _Problems:
    webhook = config.webhook
    if webhook.url is None:
        return
    url = urlsplit(webhook.url)
    try:
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if not host:
        yield ("webhook", "url"), "has no valid host and port; expected one such as https://alerts.example/edgepose"
    elif url.scheme == "http" and not (webhook.allow_http or is_loopback(host)):
        yield ("webhook", "url"), f"sends events to {host} without encryption; expected https://, or webhook.allow_http to be true"
    if not (config.events.enabled and config.track.enabled):
        yield ("webhook", "url"), "is set while events.enabled or track.enabled is false; expected both to be true, or no URL"


def _monitoring_problems(config: Config) -> _Problems:
    monitoring = config.monitoring
    if (monitoring.certificate_file is None) != (monitoring.key_file is None):
        key = "certificate_file" if monitoring.key_file is None else "key_file"
        yield ("monitoring", key), "is set alone; expected certificate_file and key_file, or neither"
    if monitoring.enabled and not is_loopback(monitoring.host):
        lacking = [key for key in ("certificate_file", "key_file", "token_file") if getattr(monitoring, key) is None]
        if lacking:
            yield (
                ("monitoring", "host"),
                (
                    f"is {monitoring.host}, which other machines can reach, without {' and '.join(f'monitoring.{key}' for key in lacking)};"
                    " expected TLS and a token there, or 127.0.0.1"
                ),
            )


def _web_problems(config: Config) -> _Problems:
    web = config.web
    if (web.certificate_file is None) != (web.key_file is None):
        key = "certificate_file" if web.key_file is None else "key_file"
        yield ("web", key), "is set alone; expected certificate_file and key_file, or neither"
    if web.enabled and web.live_port == web.port != 0:
        yield ("web", "live_port"), f"is {web.live_port}, the port of `edgepose serve`; expected another one than web.port"
    for proxy in web.trusted_proxies:
        if not is_address(proxy):
            yield ("web", "trusted_proxies"), f"names {proxy}; expected IP addresses"


def _place_problems(config: Config) -> _Problems:
    for name, camera in config.cameras.items():
        for line, (start, end) in camera.lines.items():
            if start == end:
                yield ("cameras", name, "lines", line), "begins where it ends; expected two points"
        areas = [(kind, area, corners) for kind in ("zones", "masks") for area, corners in getattr(camera, kind).items()]
        for kind, area, corners in areas:
            keys = ("cameras", name, kind, area)
            distinct = [corner for corner, before in zip(corners, corners[-1:] + corners[:-1], strict=True) if corner != before]
            if _crosses_itself(distinct):
                yield keys, "has edges that cross; expected its corners in order around it"
            elif _area(distinct) < _MINIMUM_AREA:
                yield keys, "has no area; expected at least three corners that are not on one line"


def _privacy_problems(config: Config) -> _Problems:
    if config.encryption.enabled and config.encryption.key is None:
        yield ("encryption", "key"), "is missing while encryption.enabled is true; expected the file that `edgepose keys create` made"
    pixels, profile = config.privacy.pixels, config.privacy.profile
    if profile != "full":
        files = config.files
        beyond = {("files", "video"): files.video, ("files", "images"): files.images, ("black_box", "path"): config.black_box.path}
        for keys, path in beyond.items():
            if path is not None:
                yield keys, f"would keep the keypoints that privacy.profile {profile} leaves out; expected full there, or no path"
    if pixels == "never":
        for key in ("video", "images"):
            if getattr(config.files, key) is not None:
                yield ("files", key), "would write images while privacy.pixels is never; expected blurred or allowed there, or no file"
        if config.commands.snapshot:
            yield ("commands", "snapshot"), "is true while privacy.pixels is never; expected blurred or allowed there, or false"
    if pixels != "allowed":
        for keys, path in ((("model", "path"), config.model.path), (("refine", "path"), config.refine.path)):
            if is_remote(path):
                yield (
                    keys,
                    f"would send images to a server while privacy.pixels is {pixels}; expected allowed, or a model on this device",
                )


def _flight_problems(config: Config) -> _Problems:
    flight = config.flight
    for name, camera in config.cameras.items():
        mount = camera.mount
        if mount is None:
            continue
        keys = ("cameras", name, "mount")
        if (mount.field_of_view_deg is None) == (mount.intrinsics is None):
            found = "neither" if mount.intrinsics is None else "both"
            yield (*keys, "field_of_view_deg"), f"and intrinsics: {found} is set; expected one of them"
        if mount.intrinsics is not None and len(mount.intrinsics.distortion) not in (0, 4, 5, 8):
            yield (*keys, "intrinsics", "distortion"), f"has {len(mount.intrinsics.distortion)} coefficients; expected 0, 4, 5 or 8"
        if mount.gimbal and flight.source == "fixed":
            yield (*keys, "gimbal"), "is true while flight.source is fixed; expected mavlink or mqtt there, or false"
    if flight.source == "mqtt" and not flight.topic:
        yield ("flight", "topic"), "is absent while flight.source is mqtt; expected a topic"
    if flight.source == "mqtt" and not config.mqtt.enabled:
        yield ("flight", "source"), "is mqtt while mqtt.enabled is false; expected both, or another source"
    if flight.height == "sea_level" and flight.ground_altitude_m is None:
        yield ("flight", "ground_altitude_m"), "is absent while flight.height is sea_level; expected the altitude of the ground"
    if (flight.fixed.latitude is None) != (flight.fixed.longitude is None):
        yield ("flight", "fixed", "latitude"), "and longitude: one is set alone; expected both or neither"
    reports = flight.report.heartbeat or flight.report.people_address is not None
    if reports and flight.source != "mavlink":
        yield ("flight", "report"), f"is on while flight.source is {flight.source}; expected mavlink"


def _bundle_problems(config: Config) -> _Problems:
    bundles = config.bundles
    if not bundles.enabled:
        return
    if not config.mqtt.enabled:  # bundles arrive over MQTT only
        yield ("bundles", "enabled"), "is true while mqtt.enabled is false; expected both to be true, or no bundles"
    for key, what in (("keys_file", "a file of public keys"), ("folder", "a folder that outlives the daemon")):
        if getattr(bundles, key) is None:
            yield ("bundles", key), f"is not set while bundles.enabled is true; expected {what}"
    for pin in bundles.pinned:
        if pin.split(".")[0] not in Config.__struct_fields__:
            yield ("bundles", "pinned"), f"names {pin}; expected keys such as privacy or cameras.front.source"


def _file_problems(config: Config, file: Path | None) -> _Problems:
    if file is None:
        return
    for named in named_files(config):
        if named.mark.role in ("write", "folder") and _is_same(named.value, file):
            yield named.keys, "is the configuration file itself, which would be overwritten; expected another path"


def _is_same(one: str, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)  # follows symbolic links and recognizes hard links
    except OSError:  # the file does not exist yet
        return False


def _area(corners: Sequence[_Corner]) -> float:
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in _edges(corners))) / 2


def _crosses_itself(corners: Sequence[_Corner]) -> bool:
    return any(_cross(one, other) for one, other in combinations(_edges(corners), 2))


def _edges(corners: Sequence[_Corner]) -> list[tuple[_Corner, _Corner]]:
    return [(corner, corners[(index + 1) % len(corners)]) for index, corner in enumerate(corners)]


def _cross(one: tuple[_Corner, _Corner], other: tuple[_Corner, _Corner]) -> bool:
    """Return whether two edges cross at a point that is an end of neither."""
    (a, b), (c, d) = one, other
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: _Corner, b: _Corner, c: _Corner) -> float:
    """Return a number whose sign tells on which side of the line from `a` to `b` the point `c` is."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
