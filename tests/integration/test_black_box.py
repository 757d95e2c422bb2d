"""`edgepose run` with a black box on the clip in the package, and `edgepose replay` of what it kept: the same messages, byte for byte."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edgepose.config.schema import Config
from edgepose.recorder.format import SUFFIX, FrameRecord, SegmentHeader, first_line, packed, records
from testing.servers.mosquitto import Mosquitto
from testing.videos import write_flights
from testing.waiting import wait_for

CLIP = Path(__file__).parents[2] / "edgepose" / "assets" / "demo.mp4"
PHOTOGRAPH = CLIP.with_name("golden.jpg")
FRAMES = 60


class Ear:
    """Keeps the payloads of topics as they came."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._heard: list[tuple[str, bytes]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("edgepose/drone/cameras/#", 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        with self._lock:
            self._heard.append((message.topic, bytes(message.payload)))

    def on(self, last: str) -> list[bytes]:
        with self._lock:
            return [payload for topic, payload in self._heard if topic.endswith(last)]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def run(folder: Path, port: int, *settings: str, clip: Path = CLIP) -> subprocess.Popen[bytes]:
    zone = "[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]"
    (folder / "config.yaml").write_text(
        "device: drone\n"
        "cameras:\n"
        f"  one: {{source: '{clip}', loop: true, zones: {{all: {zone}}}}}\n"
        f"  two: {{source: '{clip}', loop: true}}\n"
        f"mqtt: {{host: 127.0.0.1, port: {port}}}\n"
        "events: {enter_after_s: 0.3, zone_after_s: 0.2}\n"
        f"black_box: {{path: {folder / 'box'}}}\n"
        f"files: {{jsonl: {folder / 'poses.jsonl'}}}\n"
    )
    command = [sys.executable, "-m", "edgepose", "run", "--config", str(folder / "config.yaml")]
    for setting in settings:
        command += ["--set", setting]
    with (folder / "daemon.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def written(folder: Path) -> list[bytes]:
    path = folder / "poses.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def replay(recording: Path, folder: Path) -> tuple[list[bytes], list[bytes], dict[str, Any]]:
    """Pose messages, event messages and the summary."""
    command = [sys.executable, "-m", "edgepose", "replay", str(recording), "--json"]
    command += ["--output", str(folder / "again.jsonl"), "--events", str(folder / "events.jsonl")]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [(folder / name).read_bytes().splitlines() if (folder / name).exists() else [] for name in ("again.jsonl", "events.jsonl")]
    return lines[0], lines[1], json.loads(done.stdout)


@pytest.mark.parametrize("flies", [False, True], ids=["unrefined", "refined, a camera that moves, tiles"])
def test_a_recording_on_request_replays_the_same_messages(flies: bool, tmp_path: Path) -> None:
    clip = write_flights(tmp_path, PHOTOGRAPH, 1, 2 * FRAMES, long_side=960)[0] if flies else CLIP
    with Mosquitto(tmp_path) as broker:
        ear = Ear(broker.port)
        looks = ("refine.people=2", "tiles.per_frame=2") if flies else ("refine.people=0", "tiles.enabled=false", "motion.enabled=false")
        daemon = run(tmp_path, broker.port, *looks, clip=clip)
        try:
            wait_for(lambda: len(written(tmp_path)) >= FRAMES, within_s=120)
            daemon.send_signal(signal.SIGUSR1)
            (recording,) = wait_for(lambda: list((tmp_path / "box").glob("*Z-signal")), within_s=30)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
            wait_for(lambda: ear.on("/poses"))
        finally:
            daemon.kill()
            daemon.wait(60)
            ear.close()
    poses, events, summary = replay(recording, tmp_path)
    assert len(poses) >= FRAMES - 5
    assert poses == written(tmp_path)[: len(poses)]
    assert any(json.loads(line)["people"] for line in poses)
    # The session names the MQTT connection, which a file knows nothing of.
    assert {re.sub(rb'"session":"[0-9a-f]+",', b"", message) for message in ear.on("/poses")} & set(poses)
    assert len(events) >= 2
    assert set(events) <= set(ear.on("/events"))
    assert summary["frames"] == len(poses)
    assert summary["events"] == len(events)
    assert summary["lost"] == 0
    assert summary["states"] >= 2
    kept = [record for record in records(recording) if isinstance(record, FrameRecord)]
    assert any(record.visited for record in kept) == any(record.motion for record in kept) == flies


def test_a_daemon_that_was_killed_leaves_a_recording_for_the_next(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        daemon = run(tmp_path, broker.port)
        try:
            ring = tmp_path / "box" / "ring"
            # Up to a second of records is in memory, so not the first bytes only: a frame takes 3 KB.
            wait_for(lambda: sum(file.stat().st_size for file in ring.glob(f"*{SUFFIX}")) > 60_000, within_s=120)
            daemon.kill()
            daemon.wait(60)
            before = written(tmp_path)
            daemon = run(tmp_path, broker.port)
            (recording,) = wait_for(lambda: list((tmp_path / "box").glob("*Z-unexpected-exit")), within_s=60)
        finally:
            daemon.kill()
            daemon.wait(60)
    poses, _, summary = replay(recording, tmp_path)
    assert len(poses) >= 3
    assert len(before) >= 3
    assert poses[: len(before)] == before[: len(poses)]  # either file may be a frame ahead when the daemon is killed
    assert summary["lost"] == 0


def test_a_daemon_that_does_not_start_leaves_the_black_box_of_another_alone(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = run(tmp_path, broker.port)
        try:
            ring = tmp_path / "box" / "ring"
            wait_for(lambda: any(file.stat().st_size for file in ring.glob(f"*{SUFFIX}")), within_s=120)
            command = [sys.executable, "-m", "edgepose", "run", "--config", str(tmp_path / "config.yaml"), "--set", "device=second"]
            command += ["--set", "files.jsonl=null"]
            for settings, said in (
                ([], "another edgepose writes its black box into"),
                (["monitoring.enabled=true", f"monitoring.port={taken.getsockname()[1]}", f"black_box.path={tmp_path / 'new'}"], "port"),
            ):
                options = [option for setting in settings for option in ("--set", setting)]
                second = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
                assert second.returncode == 69
                assert said in second.stderr.splitlines()[-1]
            daemon.send_signal(signal.SIGUSR1)
            (recording,) = wait_for(lambda: list((tmp_path / "box").glob("*Z-signal")), within_s=30)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(30) == 0
        finally:
            daemon.kill()
            daemon.wait(60)
    assert {place.name for place in (tmp_path / "box").iterdir()} == {recording.name, "ring"}
    assert not (tmp_path / "new").exists()
    poses, _, _ = replay(recording, tmp_path)
    assert poses == written(tmp_path)[: len(poses)]


def test_a_file_that_is_no_recording_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.segment").write_bytes(b"\x00" * 100)
    for place in (tmp_path, tmp_path / "a.segment", tmp_path / "missing"):
        done = subprocess.run([sys.executable, "-m", "edgepose", "replay", str(place)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 66
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"edgepose: {tmp_path}")


def test_a_replay_writes_over_no_recording(tmp_path: Path) -> None:
    recording = tmp_path / "box" / "20261122T100000Z-signal"
    recording.mkdir(parents=True)
    settings = SegmentHeader(edgepose="0", model="m", sha256="0", settings=Config(), at_ns=0)
    for number in (1, 2):
        (recording / f"{number:08d}{SUFFIX}").write_bytes(first_line() + packed(settings, 1))
    segment = recording / f"00000001{SUFFIX}"
    copy = tmp_path / segment.name
    copy.write_bytes(segment.read_bytes())
    (tmp_path / "link").symlink_to(segment)
    (tmp_path / "other").hardlink_to(segment)
    (tmp_path / "folder").symlink_to(recording)
    for played, *options in (
        (recording, "--output", segment),
        (recording, "--events", recording / "new.jsonl"),
        (recording, "--output", tmp_path / "folder" / "new.jsonl"),
        (recording, "--output", tmp_path / "link"),
        (segment, "--output", tmp_path / "other"),
        (segment, "--output", recording / f"00000002{SUFFIX}"),
        (tmp_path / "folder", "--output", copy),
        (recording, "--output", tmp_path / "a", "--events", tmp_path / "a"),
    ):
        command = [sys.executable, "-m", "edgepose", "replay", str(played), *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (78, "", 1)
        assert "expected a place" in done.stderr
    assert segment.read_bytes() == copy.read_bytes()
    assert not (recording / "new.jsonl").exists()
    command = [sys.executable, "-m", "edgepose", "replay", str(copy), "--output", str(tmp_path / "a"), "--events", "/dev/null"]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
