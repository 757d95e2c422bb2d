"""A board without a battery: its clock wakes in the past, and stays there until a time server is reached."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepose.daemon.health import DaemonSnapshot, health_message
from edgepose.recorder.folder import RecorderFolder
from edgepose.recorder.format import SUFFIX
from edgepose.telemetry import wall_clock
from edgepose.telemetry.wall_clock import BUILT, Synchronization, WallClock, synchronization
from testing.onnx_files import write_edgepose
from testing.requirements import FAKETIME
from testing.servers.certificates import Authority
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for

DAY_NS = 86_400_000_000_000
BUILT_NS = int(BUILT.timestamp() * 1e9)
NOW_NS = BUILT_NS + 100 * DAY_NS


def clock(now_ns: int, state: Synchronization = "unknown", store: Path | None = None, *witnesses: Path) -> WallClock:
    return WallClock(store, witnesses, now_ns=lambda: now_ns, synchronization=lambda: state)


@pytest.mark.parametrize(
    ("now_ns", "state", "reason"),
    [
        (0, "unknown", "it shows 1970-01-01 00:00 UTC, which is before 2026-11-01 00:00 UTC, a time that has passed"),
        (BUILT_NS - DAY_NS, "unknown", "which is before 2026-11-01"),
        (NOW_NS, "unknown", None),  # a container, or a machine without a time service
        (NOW_NS, "synchronized", None),
        (NOW_NS, "waiting", "no time server has set it yet"),
        (0, "waiting", "it shows 1970-01-01 00:00 UTC, and no time server has set it yet"),
        (0, "synchronized", None),  # the time server knows better
    ],
)
def test_a_clock_is_set_where_nothing_speaks_against_it(now_ns: int, state: Synchronization, reason: str | None) -> None:
    unset = clock(now_ns, state).unset()
    assert (unset is None) if reason is None else (unset is not None and reason in unset)


def test_the_last_time_is_kept_over_a_restart(tmp_path: Path) -> None:
    store = tmp_path / "clock"
    clock(NOW_NS, "unknown", store).remember(0.0)
    assert store.stat().st_mode & 0o777 == 0o600
    assert clock(NOW_NS - DAY_NS, "unknown", store).unset() is not None  # after the build, and before the last time
    assert clock(NOW_NS - 1_000_000_000, "unknown", store).unset() is None  # a correction by a second
    assert clock(NOW_NS + DAY_NS, "unknown", store).unset() is None
    clock(0, "unknown", store).remember(0.0)
    assert clock(NOW_NS - DAY_NS, "unknown", store).unset() is not None  # a clock that is not set is not remembered


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"yesterday", b"9" * 10_000, b"99999-01-01"])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clock").write_bytes(content)
    assert clock(NOW_NS, "unknown", tmp_path / "clock").unset() is None


def test_no_file_that_was_written_is_newer_than_now(tmp_path: Path) -> None:
    store = tmp_path / "events.db"
    store.touch()
    os.utime(store, ns=(NOW_NS, NOW_NS))
    assert clock(NOW_NS - DAY_NS, "unknown", None, store, tmp_path / "absent").unset() is not None


@pytest.mark.parametrize(
    ("kernel", "present", "state"),
    [
        (True, (), "synchronized"),
        (False, (), "unknown"),  # nobody sets the clock here, or another machine does that runs this container
        (None, (), "unknown"),
        (False, ("timesync",), "waiting"),
        (None, ("timesync",), "waiting"),  # the unit may not ask the kernel
        (None, ("timesync", "timesync/synchronized"), "synchronized"),
        (False, ("chrony",), "waiting"),
        (None, ("chrony",), "unknown"),
        (True, ("chrony",), "synchronized"),
    ],
)
def test_what_a_process_can_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: bool | None, present: tuple[str, ...], state: str
) -> None:
    for name in present:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(wall_clock, "_kernel_synchronized", lambda: kernel)
    monkeypatch.setattr(wall_clock, "_TIMESYNCD", tmp_path / "timesync")
    monkeypatch.setattr(wall_clock, "_SYNCHRONIZED", tmp_path / "timesync" / "synchronized")
    monkeypatch.setattr(wall_clock, "_SERVICES", (tmp_path / "timesync", tmp_path / "chrony"))
    assert synchronization() == state


def test_this_machine_can_be_asked() -> None:
    assert wall_clock._kernel_synchronized() in (True, False, None)
    assert synchronization() in ("synchronized", "waiting", "unknown")


def test_health_says_so() -> None:
    assert health_message(DaemonSnapshot(clock_unset="it shows 1970"), None).degraded == ["clock_unset"]
    assert health_message(DaemonSnapshot(), None).degraded == []


def test_a_recording_made_in_the_past_is_not_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is full; without its clock the board would remove the newest recording, at once."""

    def recorded(name: str, at_s: int) -> Path:
        place = tmp_path / name
        place.mkdir()
        (place / f"1{SUFFIX}").write_bytes(b"x" * 400)
        os.utime(place, (at_s, at_s))
        return place

    first, second = recorded("20261101T000000Z-signal", 1_793_000_000), recorded("20261102T000000Z-signal", 1_793_100_000)
    (tmp_path / "ring").mkdir()
    (tmp_path / "ring" / f"1{SUFFIX}").write_bytes(b"x" * 400)  # cut off by a power cut
    os.utime(tmp_path / "ring" / f"1{SUFFIX}", (3600, 3600))  # in 1970
    monkeypatch.setattr("edgepose.recorder.folder.time.time_ns", lambda: 3_700_000_000_000)
    folder = RecorderFolder(tmp_path, 1000)
    folder.take_over()
    folder.release()
    assert not first.exists()
    assert second.exists()
    assert (tmp_path / "19700101T010000Z-unexpected-exit").exists()


@pytest.mark.needs("faketime", "openssl", "mosquitto")
def test_a_daemon_whose_clock_wakes_in_the_past_says_so_and_blames_no_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("broker", host="localhost")
    (tmp_path / "ca").mkdir()
    state = tmp_path / "state"
    state.mkdir()
    with Mosquitto(tmp_path, tls=(authority.certificate, certificate, key)) as broker:
        config = tmp_path / "config.yaml"
        config.write_text(
            "device: drone\ncameras: {front: {source: 'rtsp://127.0.0.1:1/cam', reconnect_maximum_s: 0.5}}\n"
            f"model: {{path: {write_edgepose(tmp_path / 'tiny.onnx')}, threads: 1}}\nhealth: {{interval_s: 0.2}}\n"
            f"events: {{store: {state}/events.db}}\nmqtt: {{host: localhost, port: {broker.port}, reconnect_maximum_s: 0.5,"
            f" tls: {{enabled: true, ca_file: {authority.certificate}}}}}\n"
        )
        environment = {**os.environ, "LD_PRELOAD": str(FAKETIME), "FAKETIME": "@2001-02-03 04:05:06", "DONT_FAKE_MONOTONIC": "1"}
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-m", "edgepose", "run", "--config", str(config)]
            process = subprocess.Popen(command, stderr=log, env=environment)
        try:
            said = wait_for(lambda: [line for line in (tmp_path / "log").read_text().splitlines() if "certificate" in line], within_s=60)
            assert "the broker's certificate is not yet valid; expected this device's clock to be set, which shows 2001-02-03" in said[0]
            assert "the clock of this device is not set: it shows 2001-02-03" in (tmp_path / "log").read_text()
            assert not (state / "clock").exists()
        finally:
            process.terminate()
            assert process.wait(120) == 0
