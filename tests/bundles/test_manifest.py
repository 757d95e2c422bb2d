"""Bundles that are not as they were signed, or not for this device, are refused; each refusal is one sentence."""

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepose.bundles.manifest import (
    LIMIT_BYTES,
    SIGNED_PREFIX,
    refuse_foreign,
    refuse_replayed,
    refuse_untimely,
    verified,
)
from edgepose.bundles.pins import NEVER, refuse_pinned
from edgepose.bundles.public_keys import key_id, read_keys
from edgepose.config.reference import keys as configuration_keys
from edgepose.errors import ConfigError
from edgepose_export.cli.bundle import signed
from testing.bundles import KEY, OTHER_KEY, manifest, message, reference, write_keys

KEYS = {key_id(KEY.public_key()): KEY.public_key()}
FILE = reference("other.onnx", "https://files.example/other.onnx", b"network")
ANY_FILE = {"name": "a", "url": "https://a/x", "size": 1, "sha256": "0" * 64}
NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def test_what_was_signed_is_what_arrives() -> None:
    bundle = verified(message(7, "pose: {score_threshold: 0.4}\n", (FILE,)), KEYS)
    assert bundle.manifest == manifest(7, "pose: {score_threshold: 0.4}\n", (FILE,))
    assert bundle.key in KEYS


def test_a_flipped_bit_anywhere_is_refused() -> None:
    right = message(7, "pose: {score_threshold: 0.4}\n", (FILE,))
    draw = random.Random(1)
    for place in range(len(right)):
        wrong = bytearray(right)
        wrong[place] ^= 1 << draw.randrange(8)
        with pytest.raises(ConfigError, match="; expected"):
            verified(bytes(wrong), KEYS)


def test_what_is_cut_anywhere_is_refused() -> None:
    right = message(7, files=(FILE,))
    for length in range(len(right)):
        with pytest.raises(ConfigError, match="is no bundle"):
            verified(right[:length], KEYS)


def with_(**changed: Any) -> bytes:
    return json.dumps(json.loads(message(7)) | changed).encode()


def resigned(changed: dict[str, Any]) -> bytes:
    """Return a bundle whose manifest has other fields, with a right signature."""
    text = json.dumps(json.loads(msgspec.json.encode(manifest(7))) | changed)
    return with_(manifest=text, signature=KEY.sign(SIGNED_PREFIX + text.encode()).hex())


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "is no bundle"),
        (b"\xff\xfe", "is no bundle"),
        (b"[1, 2]", "is no bundle"),
        (b"[" * 5000, "is no bundle"),
        (b"x" * (LIMIT_BYTES + 1), "bytes long"),
        (with_(signature=""), "is no bundle"),
        (with_(signature="0" * 128), "is not that of the key"),
        (with_(signature=KEY.sign(msgspec.json.encode(manifest(7))).hex()), "is not that of the key"),  # without the prefix
        (signed(manifest(7), OTHER_KEY), "is signed with the key"),
        (with_(key="0" * 16), "is signed with the key 0000000000000000"),
        (with_(key=key_id(KEY.public_key()), signature=OTHER_KEY.sign(b"x").hex()), "is not that of the key"),
        (with_(manifest=json.loads(message(8))["manifest"]), "is not that of the key"),
        (with_(more=1), "is no bundle"),
        (with_(schema=2), "is no bundle"),
        (with_(manifest="\ud800"), "is no bundle|is not that"),
        (resigned({"number": 0}), "manifest of the bundle is not valid"),
        (resigned({"number": 1 << 60}), "manifest of the bundle is not valid"),
        (resigned({"only_if": "raining"}), "manifest of the bundle is not valid"),
        (resigned({"expires": "2026-11-30T00:00:00"}), "manifest of the bundle is not valid"),  # without a zone
        (
            resigned({"files": [{"name": "../x", "url": "https://a/x", "size": 1, "sha256": "0" * 64}]}),
            "manifest of the bundle is not valid",
        ),
        (resigned({"files": [{"name": "config.yaml", "url": "https://a/x", "size": 1, "sha256": "0" * 64}]}), "names a file twice"),
        (resigned({"files": 2 * [{"name": "a", "url": "https://a/x", "size": 1, "sha256": "0" * 64}]}), "names a file twice"),
    ],
)
def test_everything_else_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        verified(payload, KEYS)
    assert "; expected" in str(refused.value)
    assert len(str(refused.value)) < 400


def test_only_those_named_take_it() -> None:
    mine = manifest(7, devices=["drone", "other"], groups=["night"])
    refuse_foreign(mine, "drone", [])
    refuse_foreign(mine, "third", ["day", "night"])
    with pytest.raises(ConfigError, match="bundle 7 is for drone, other, the group night; expected third among them"):
        refuse_foreign(mine, "third", ["day"])
    with pytest.raises(ConfigError, match="is for nobody"):
        refuse_foreign(manifest(7, devices=[]), "drone", [])


def test_only_a_greater_number_is_new() -> None:
    refuse_replayed(manifest(8), 7)
    for number in (6, 7):
        with pytest.raises(ConfigError, match=f"bundle {number} is not newer than 7"):
            refuse_replayed(manifest(number), 7)


def test_times_hold_where_the_clock_is_set() -> None:
    hour = timedelta(hours=1)
    bounded = manifest(7, devices=["drone"], not_before=NOW - hour, expires=NOW + hour)
    refuse_untimely(bounded, NOW)
    refuse_untimely(bounded, None)
    refuse_untimely(manifest(7), NOW)
    for wrong in (NOW - 2 * hour, NOW + hour):
        with pytest.raises(ConfigError, match="expected"):
            refuse_untimely(bounded, wrong)


@pytest.mark.parametrize("pin", NEVER)
def test_no_bundle_sets_what_keeps_the_operator_in(pin: str) -> None:
    section, _, key = pin.partition(".")
    inside = f"{section}: {{{key}: {{x: 1}}}}" if key else f"{section}: {{x: 1}}"
    for text in (inside, inside.replace("{x: 1}", "1"), f"pose: {{score_threshold: 0.4}}\n{inside}"):
        with pytest.raises(ConfigError, match=f"{pin} is pinned on this device; expected a bundle without it"):
            refuse_pinned(text, [])


def test_every_pin_is_a_key() -> None:
    paths = {key.path for key in configuration_keys()}
    assert [pin for pin in NEVER if not any(f"{path}.".startswith(f"{pin}.") for path in paths)] == []


def test_a_device_pins_more() -> None:
    text = (
        "privacy: {pixels: allowed}\nmqtt: {poses: {rate_hz: 5}}\n"
        "cameras: {front: {zones: {door: [[0, 0], [1, 0], [1, 1]]}, stale_after_s: 2}}\n"
    )
    refuse_pinned(text, ["model", "cameras.front.source", "cameras.fro"])
    for pin in ("privacy", "privacy.pixels", "cameras.front", "cameras.front.zones", "cameras.front.stale_after_s", "mqtt.poses"):
        with pytest.raises(ConfigError, match=f"{pin} is pinned"):
            refuse_pinned(text, [pin])


@pytest.mark.parametrize("text", ["a: [", "&a [*a]", "x: " + "[" * 100])
def test_what_is_not_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not valid YAML"):
        refuse_pinned(text, [])


def test_several_keys_lie_in_one_file(tmp_path: Path) -> None:
    keys = read_keys(write_keys(tmp_path / "keys.pem", KEY, OTHER_KEY))
    assert set(keys) == {key_id(KEY.public_key()), key_id(OTHER_KEY.public_key())}
    verified(signed(manifest(1), OTHER_KEY), keys)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read"),
        (b"", "holds no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds a damaged key"),
        (b"-----BEGIN PRIVATE KEY-----\n", "holds a private key"),
        (
            b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEMKBCTNIcKUSDii11ySs3526iDZ8A\n"
            b"iTo7Tu6KPAqv7D7gS2XpJFbZiItSs3m9+9Ue6GnvHw/GW2ZZaVtszggXIw==\n-----END PUBLIC KEY-----\n",
            "holds a key of another kind",
        ),
    ],
)
def test_other_key_files_are_refused(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "keys.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        read_keys(path)
