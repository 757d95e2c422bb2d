"""Whether this version gives the values of b74093e, the last one before the renames.

    python -m testing.compare_with_b74093e OLD [VIDEO]

OLD is a checkout of b74093e with its environment in OLD/.venv; VIDEO is build/vtest.avi unless given. Both versions write the poses of
the video with `infer`, without and with a refiner, and run the daemon on it with a black box; each replays its own recording. All fields
are compared but `age_ms`, event identifiers (which hold wall-clock times) and the wall-clock base of other times. Ends with 1 on any
difference.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from testing.servers.mosquitto import Mosquitto

_ROOT = Path(__file__).parents[1]
_WAIT_S = 600.0
_TIMES = ("captured_at", "at", "since")
_IGNORED = ("age_ms", "id")
_SUMMARY = {"looked_at_again": "refined"}  # names of `infer --json` that changed
_RECORD = {"looked": "refined", "captured_at": "captured_at_ns"}  # names of black-box records that changed

Message = dict[str, Any]


@dataclass(frozen=True)
class Version:
    """One version of edgepose, and how its command is called."""

    name: str
    root: Path
    python: str

    def command(self, *arguments: str | Path) -> list[str]:
        return [self.python, "-m", "edgepose", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.root)}

    def run(self, *arguments: str | Path) -> bytes:
        done = subprocess.run(self.command(*arguments), cwd=self.root, env=self.environment(), capture_output=True, timeout=_WAIT_S)
        if done.returncode:
            raise SystemExit(f"{self.name}: edgepose {arguments[0]} ended with {done.returncode}: {done.stderr.decode()}")
        return done.stdout


@dataclass
class DaemonRun:
    """What one daemon wrote, published and recorded, and what its recording replays."""

    written: list[bytes]
    events: list[bytes]
    replayed: list[bytes]
    replayed_events: list[bytes]
    frames: list[Message]


@dataclass
class Table:
    """The comparisons so far."""

    rows: list[tuple[str, int, int, str]] = field(default_factory=list)
    good: bool = True

    def compare(self, what: str, old: list[Message], new: list[Message]) -> None:
        differences = [] if len(old) == len(new) else [f"{len(old)} and {len(new)} of them"]
        values = 0
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            values += _count(one)
            differences += [f"number {number}: {text}" for text in _differences(one, other)]
        self._add(what, len(new), values, differences)

    def equal(self, what: str, one: list[bytes], other: list[bytes]) -> None:
        differences = [] if one == other else [f"{len(one)} and {len(other)} lines that are not the same bytes"]
        self._add(what, len(other), sum(map(len, other)), differences)

    def _add(self, what: str, items: int, values: int, differences: list[str]) -> None:
        if not items:
            differences = [*differences, "there is nothing to compare"]
        self.good &= not differences
        self.rows.append((what, items, values, f"{len(differences)} differences: {differences[0]}" if differences else "equal"))

    def __str__(self) -> str:
        width = max(len(row[0]) for row in self.rows)
        lines = [f"{'compared':{width}}  {'items':>7}  {'values':>9}  result"]
        lines += [f"{what:{width}}  {items:7}  {values:9}  {result}" for what, items, values, result in self.rows]
        return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Compare, print the table, and return the exit code."""
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 64
    old = Version("b74093e", Path(arguments[0]).resolve(), str(Path(arguments[0]).resolve() / ".venv" / "bin" / "python"))
    new = Version("now", _ROOT, sys.executable)
    video = Path(arguments[1] if len(arguments) > 1 else _ROOT / "build" / "vtest.avi").resolve()
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        for options in ([], ["--refiner", "refine-n"]):
            _compare_infer(table, old, new, video, options, Path(folder))
        for refined in (0, 3):
            _compare_daemons(table, old, new, video, refined, Path(folder))
    print(table)
    return 0 if table.good else 1


def _compare_infer(table: Table, old: Version, new: Version, video: Path, options: list[str], folder: Path) -> None:
    name = " ".join(["infer", *options])
    summaries, poses = [], []
    for version in (old, new):
        output = folder / f"{version.name}.jsonl"
        summary = json.loads(version.run("infer", video, "--output", output, "--json", *options))
        summary.pop("frames_per_second")
        summaries.append({_SUMMARY.get(key, key): value for key, value in summary.items()})
        poses.append(_relative(output.read_bytes().splitlines()))
    table.compare(f"{name}: summary", summaries[:1], summaries[1:])
    table.compare(f"{name}: pose messages", *poses)


def _compare_daemons(table: Table, old: Version, new: Version, video: Path, refined: int, folder: Path) -> None:
    name = f"daemon, refine.people={refined}"
    runs = []
    frames = len((folder / f"{new.name}.jsonl").read_bytes().splitlines())
    for version in (old, new):
        place = folder / f"{version.name}-{refined}"
        place.mkdir()
        run = _daemon(version, video, refined, frames, place)
        runs.append(run)
        table.equal(f"{name}: poses of {version.name}, written and replayed", run.written, run.replayed)
        table.equal(f"{name}: events of {version.name}, published and replayed", run.events, run.replayed_events)
    before, now = runs
    table.compare(f"{name}: pose messages", _relative(before.written), _relative(now.written))
    table.compare(f"{name}: event messages", _relative(before.events, before.written), _relative(now.events, now.written))
    table.compare(f"{name}: candidates and refined people, bit for bit", before.frames, now.frames)


def _daemon(version: Version, video: Path, refined: int, frames: int, folder: Path) -> DaemonRun:
    """Run a daemon on the video, make a recording and replay it."""
    poses, box = folder / "poses.jsonl", folder / "box"
    events: list[bytes] = []
    lock = threading.Lock()

    def take(client: Client, _: object, message: MQTTMessage) -> None:
        with lock:
            events.append(bytes(message.payload))

    with Mosquitto(folder) as broker:
        client = Client(CallbackAPIVersion.VERSION2)
        client.on_message = take
        client.on_connect = lambda client, *_: client.subscribe("edgepose/drone/cameras/+/events", 1)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        (folder / "config.yaml").write_text(
            "device: drone\n"
            "cameras:\n"
            f"  video: {{source: '{video}', zones: {{left: [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]}}}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"refine: {{people: {refined}}}\n"
            f"black_box: {{path: {box}, minutes: 60}}\n"
            f"files: {{jsonl: {poses}}}\n"
        )
        with (folder / "daemon.log").open("wb") as log:
            command = version.command("run", "--config", folder / "config.yaml")
            daemon = subprocess.Popen(command, cwd=version.root, env=version.environment(), stdout=log, stderr=log)
        try:
            _wait(lambda: poses.exists() and poses.read_bytes().count(b"\n") >= frames, f"{version.name}: {frames} pose messages")
            daemon.send_signal(signal.SIGUSR1)
            _wait(lambda: list(box.glob("*Z-signal")), f"{version.name}: a recording")
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
        finally:
            daemon.kill()
            daemon.wait(10)
            client.disconnect()
            client.loop_stop()
    (recording,) = box.glob("*Z-signal")
    outputs = folder / "replayed.jsonl", folder / "replayed-events.jsonl"
    version.run("replay", recording, "--output", outputs[0], "--events", outputs[1])
    replayed, replayed_events = (path.read_bytes().splitlines() if path.exists() else [] for path in outputs)
    return DaemonRun(poses.read_bytes().splitlines(), events, replayed, replayed_events, _recorded_frames(recording))


def _recorded_frames(recording: Path) -> list[Message]:
    """Return the frame records of a recording of either format, without state and wall-clock times."""
    frames = []
    for segment in sorted(recording.glob("*.segment")):
        data = segment.read_bytes()
        offset = data.index(b"\n") + 1
        while offset + 8 <= len(data):
            length, _ = struct.unpack_from("<II", data, offset)
            record = msgspec.msgpack.decode(data[offset + 8 : offset + 8 + length])
            offset += 8 + length
            if "letterbox" in record:
                frame = {_RECORD.get(key, key): value for key, value in record.items()}
                frames.append({key: value for key, value in frame.items() if key not in ("type", "at", "at_ns", "memory", "snapshot")})
    first_ns = frames[0]["captured_at_ns"] if frames else 0
    return [{**frame, "captured_at_ns": frame["captured_at_ns"] - first_ns} for frame in frames]


def _relative(lines: list[bytes], base: list[bytes] | None = None) -> list[Message]:
    """Return messages with times in microseconds since the first pose message, and without what depends on the wall clock."""
    messages: list[Message] = [json.loads(line) for line in lines]
    poses = json.loads(base[0]) if base else messages[0] if messages else {}
    start = datetime.fromisoformat(poses["captured_at"].replace("Z", "+00:00")) if poses else None
    for message in messages:
        for key in _IGNORED:
            message.pop(key, None)
        for key in _TIMES:
            if key in message and start is not None:
                since = datetime.fromisoformat(message[key].replace("Z", "+00:00")) - start
                message[key] = (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
    return messages


def _differences(one: Any, other: Any, where: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [text for key in keys for text in _differences(one.get(key, "absent"), other.get(key, "absent"), f"{where}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [text for index, pair in enumerate(zip(one, other, strict=True)) for text in _differences(*pair, f"{where}[{index}]")]
    return [] if one == other and type(one) is type(other) else [f"{where[1:]} {str(one)[:60]} became {str(other)[:60]}"]


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, list):
        return sum(map(_count, value))
    return len(value) // 4 if isinstance(value, bytes) else 1


def _wait(condition: Callable[[], Any], what: str) -> None:
    deadline_s = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{what}: waited in vain for {_WAIT_S:.0f} s")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
