"""Damage to what is on disk: bit flips in the event store, lines taken out of the record of commands, folders deleted."""

import logging
import os
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edgepose.cli.live_table import camera_line, device_line, event_row_line
from edgepose.cli.log import TextFormatter
from edgepose.cli.main import cli, run
from edgepose.config.schema import CameraConfig, Config, MqttConfig, TlsConfig
from edgepose.errors import RecordingError
from edgepose.messages.live_table import CameraRow, DeviceRow, EventRow
from edgepose.messages.structs import EventMessage
from edgepose.storage.chained_lines import ChainedLines
from edgepose.validation.credentials import exposed_credentials
from testing.bitflips import flip_bits


def test_bit_flips_in_the_event_store_cost_one_event_each_and_are_counted(tmp_path: Path) -> None:
    outcomes = flip_bits(tmp_path, 300)
    assert outcomes["lost: 1"] > 100
    assert sum(outcomes.values()) == 300


def test_a_deleted_line_of_the_record_of_commands_is_found(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    lines = ChainedLines(path, 1 << 20)
    for name in ("pause", "resume", "reload"):
        lines.append({"at": "now", "command": name})
    good = CliRunner().invoke(cli, ["audit", "verify", str(path)])
    assert (good.exit_code, "3 lines verify" in good.output) == (0, True)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[::2]))
    bad = CliRunner().invoke(cli, ["audit", "verify", str(path)])
    assert isinstance(bad.exception, RecordingError)
    assert "line 2: number 2 is missing" in str(bad.exception)


@pytest.mark.parametrize(("access", "mode"), [(None, 0o600), ("group", 0o640), ("everyone", 0o644)])
def test_files_of_peoples_movements_are_their_owners_unless_told_otherwise(tmp_path: Path, access: str | None, mode: int) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((96, 96, 3), 128, np.uint8))
    before = os.umask(0o022)
    try:
        files = {name: str(tmp_path / name) for name in ("p.jsonl", "p.csv", "v.mp4")}
        said = [] if access is None else ["--set", f"files.access={access}"]
        arguments = ["infer", str(tmp_path / "a.png"), "-q", *said, "-o", files["p.jsonl"], "--csv", files["p.csv"]]
        assert run([*arguments, "--video", files["v.mp4"], "--images", str(tmp_path / "images")]) == 0
        assert os.umask(0o022) == 0o022  # as it was
        made = [Path(file) for file in files.values()] + list((tmp_path / "images").iterdir())
        assert len(made) == 4
        assert {oct(file.stat().st_mode & 0o777) for file in made} == {oct(mode)}
    finally:
        os.umask(before)


def exposed(**settings: object) -> dict[str, str]:
    return dict(exposed_credentials(Config(**settings)))  # type: ignore[arg-type]


def test_a_password_file_that_every_user_can_read_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    mqtt = MqttConfig(username="u", password_file=str(secret))
    secret.chmod(0o644)
    assert "can be read by every user of this machine (mode 0644); expected mode 0600" in exposed(mqtt=mqtt)["mqtt.password_file"]
    secret.chmod(0o600)
    assert exposed(mqtt=mqtt) == {}


@pytest.mark.parametrize(
    ("host", "tls", "named"),
    [
        ("broker.local", False, True),
        ("broker.local", True, False),
        ("localhost", False, False),
        ("127.0.0.1", False, False),
        ("::1", False, False),
    ],
)
def test_a_password_that_travels_unencrypted_over_the_network_is_named(tmp_path: Path, host: str, tls: bool, named: bool) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    secret.chmod(0o600)
    mqtt = MqttConfig(host=host, username="u", password_file=str(secret), tls=TlsConfig(enabled=tls))
    assert ("mqtt.tls.enabled" in exposed(mqtt=mqtt)) == named


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("rtsp://u:hush@camera/s", True),
        ("http://u:hush@camera/s", True),
        ("rtsps://u:hush@camera/s", False),
        ("rtsp://camera/s", False),
        ("rtsp://u:hush@127.0.0.1/s", False),
        ("/videos/a:b@c.mp4", False),
    ],
)
def test_a_camera_password_that_travels_unencrypted_is_named_without_it(source: str, named: bool) -> None:
    found = exposed(cameras={"front": CameraConfig(source=source)})
    assert ("cameras.front.source" in found) == named
    assert "hush" not in str(found)


EVIL = "drone\n12:00:00 INFO    command pause: ok\x1b[2J\x9b31m\u202e"


def test_names_of_others_forge_no_line_in_the_log_and_in_watch() -> None:
    record = logging.LogRecord("edgepose", logging.INFO, "x.py", 1, "camera %s", (EVIL,), None)
    fields = {"id": "1", "kind": "entered", "camera": EVIL, "epoch": 0, "sequence": 0, "track": 1, "at": EVIL, "since": EVIL}
    rest = {"clock": "host", "score": 1.0, "width": 1, "height": 1, "box": (0.0, 0.0, 1.0, 1.0), "evidence": {EVIL: 1.0}}
    event = msgspec.convert(fields | rest, EventMessage)
    lines = [
        TextFormatter("%(message)s").format(record),
        event_row_line(EventRow(EVIL, EVIL, event, "")),
        device_line(DeviceRow(EVIL, EVIL, EVIL)),
        camera_line(CameraRow(EVIL, EVIL, EVIL, EVIL, None, 0.0)),
    ]
    for line in lines:
        assert not set(line) & set("\n\x1b\x9b\u202e")
        assert r"drone\n12:00:00" in line
