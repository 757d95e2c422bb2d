"""What a new configuration changes, and what stays."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.diff import Changes
from edgepose.config.schema import (
    CameraConfig,
    CommandsConfig,
    Config,
    FilesConfig,
    LogConfig,
    MonitoringConfig,
    MqttConfig,
    PoseConfig,
    PrivacyConfig,
    SmoothConfig,
    TrackConfig,
)
from edgepose.daemon.audit import BURST, MERGE_S, REFILL_S, Audit
from edgepose.daemon.commands import JPEG_LIMIT_BYTES, WAITING_LIMIT, CommandHandler, snapshot_message, with_thresholds
from edgepose.errors import ConfigError, OutputError
from edgepose.frame import Frame
from edgepose.messages.command_requests import SetThresholdCommand
from edgepose.messages.structs import CommandReplyMessage
from edgepose.model.file import read_model
from edgepose.mqtt.command_inbox import Command
from edgepose.person import Candidates
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import Preprocessor
from edgepose.pixels import unguarded
from edgepose.storage.chained_lines import verify_lines
from edgepose.telemetry.metrics import Metrics
from testing.onnx_files import answers, write_edgepose

CAMERA = CameraConfig(source="rtsp://camera/stream")
ZONE = {"door": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]}
OLD = Config(device="drone", cameras={"a": CAMERA, "b": CAMERA})


@pytest.mark.parametrize(
    ("changed", "words", "publisher", "files"),
    [
        ({}, [], False, False),
        ({"cameras": {"a": CAMERA, "c": CAMERA}}, ["camera c added", "camera b removed"], False, False),
        ({"cameras": {"a": CAMERA, "b": replace(CAMERA, read_timeout_s=1.0)}}, ["camera b changed"], False, False),
        ({"cameras": {"a": CAMERA, "b": replace(CAMERA, zones=ZONE)}}, ["zones and lines applied"], False, False),
        ({"pose": PoseConfig(score_threshold=0.5)}, ["pose applied"], False, False),
        ({"mqtt": MqttConfig(host="other")}, ["mqtt applied"], True, False),
        ({"device": "other"}, ["device applied"], True, False),
        ({"commands": CommandsConfig(enabled=True)}, ["commands applied"], True, False),
        ({"commands": CommandsConfig(snapshot=True)}, ["commands applied"], False, False),
        ({"files": FilesConfig(jsonl="x")}, ["files applied"], False, True),
        (
            {"log": LogConfig(level="debug"), "monitoring": MonitoringConfig(enabled=True)},
            ["log applied", "monitoring takes effect at the next start"],
            False,
            False,
        ),
    ],
)
def test_only_differences_count(changed: dict[str, Any], words: list[str], publisher: bool, files: bool) -> None:
    changes = Changes.between(OLD, replace(OLD, **changed))
    assert (changes.words(), changes.publisher, changes.files) == (words, publisher, files)


def test_other_rules_for_pixels_start_a_new_video() -> None:
    recording = replace(OLD, files=FilesConfig(video="x.mp4"))
    assert Changes.between(recording, replace(recording, privacy=PrivacyConfig(pixels="blurred"))).files


def test_other_cameras_start_a_new_video() -> None:
    recording = replace(OLD, files=FilesConfig(video="x.mp4"))
    assert Changes.between(recording, replace(recording, cameras={"a": CAMERA})).files


def test_people_keep_their_numbers_when_thresholds_change(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "tiny.onnx")).info
    config = Config(track=TrackConfig(min_hits=1))
    stage = Postprocessor("a", config, Metrics())
    inputs = Preprocessor(info, 0, lambda stage, seconds: None)
    boxes, scores, keypoints = answers()
    candidates = Candidates(boxes[None], scores[None], keypoints[None])

    def tracks(number: int) -> list[int | None]:
        frame = Frame(np.zeros((480, 640, 3), np.uint8), number * 40_000_000, "stream", number, "a")
        return [person.track for person in stage.people(inputs.prepare(frame), candidates)]

    before = tracks(0)
    stage.configure(replace(config, pose=PoseConfig(score_threshold=0.31), smooth=SmoothConfig(minimum_cutoff_hz=3.0)), None)
    assert tracks(1) == before
    stage.configure(replace(config, track=TrackConfig(enabled=False)), None)
    assert set(tracks(2)) == {None}


def test_frames_of_another_size_start_without_memory(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "tiny.onnx")).info
    stage = Postprocessor("a", Config(), Metrics())
    inputs = Preprocessor(info, 0, lambda stage, seconds: None)
    boxes, scores, keypoints = answers()
    candidates = Candidates(boxes[None], scores[None], keypoints[None])
    numbers: dict[int, set[int | None]] = {}
    events: list[tuple[int, str]] = []
    for number in range(200):
        width = 640 if number < 50 else 1280
        frame = Frame(np.zeros((width * 3 // 4, width, 3), np.uint8), number * 40_000_000, "stream", number, "a")
        numbers.setdefault(width, set()).update(person.track for person in stage.people(inputs.prepare(frame), candidates))
        events += [(event.width, event.kind) for event in stage.events]
        if number in (20, 50, 120):  # also a postprocessor that continues from another one's memory
            snapshot, stage = stage.snapshot(), Postprocessor("a", Config(), Metrics())
            stage.restore(snapshot)
    assigned = {width: tracks - {None} for width, tracks in numbers.items()}
    assert len(assigned[640]) == len(assigned[1280]) > 4
    assert not assigned[640] & assigned[1280]
    assert {kind for _, kind in events} == {"entered"}  # nobody left, or fell
    assert {width for width, kind in events if kind == "entered"} == {640, 1280}


def test_contradictory_thresholds_are_refused() -> None:
    changed = with_thresholds(OLD, SetThresholdCommand(score_threshold=0.6, low_score_threshold=0.4))
    assert (changed.pose.score_threshold, changed.track.low_score_threshold, changed.cameras) == (0.6, 0.4, OLD.cameras)
    with pytest.raises(ConfigError, match=r"^track.low_score_threshold is 0.15; expected at most pose.score_threshold, which is 0.1$"):
        with_thresholds(OLD, SetThresholdCommand(score_threshold=0.1))


class CommandTarget:
    config = OLD

    def pause(self, camera: str) -> None:
        raise RuntimeError("an internal error")


def test_too_many_commands_and_internal_errors_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    replies: list[CommandReplyMessage] = []
    command_handler = CommandHandler(CommandTarget(), lambda command, reply: replies.append(reply), Audit(None))  # type: ignore[arg-type]
    for _ in range(WAITING_LIMIT + 2):
        command_handler.take(Command("pause", b"{}", None, None))
    assert [reply.reason for reply in replies] == ["32 commands wait already; expected fewer at a time"] * 2
    command_handler.turn(0.0)
    assert len(replies) == WAITING_LIMIT + 2
    assert {reply.status for reply in replies} == {"refused"}
    assert "an internal error" in caplog.text


def test_a_flood_of_commands_is_merged_and_pushes_nothing_out_of_the_audit(tmp_path: Path) -> None:
    audit, began_s = Audit(tmp_path / "audit.jsonl"), time.monotonic()
    ok = CommandReplyMessage(command="pause", status="ok", at="2026-11-22T10:00:00.000000Z")
    refused = CommandReplyMessage(command="x", status="refused", reason="no", at="2026-11-22T10:00:00.000000Z")
    audit.note(Command("pause", b"{}", None, None, (("user", "mary"),)), ok)
    for number in range(5000):
        audit.note(Command(f"x{number}", b"x" * 60_000, "r" * 65_000, b"c" * 60_000, (("n" * 60_000, "v" * 60_000),) * 99), refused)
    audit.note(Command("resume", b"{}", None, None), ok)
    audit.close()
    assert {path.name for path in tmp_path.iterdir()} == {"audit.jsonl", "audit.jsonl.head"}
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert (lines[0]["command"], lines[0]["user_properties"]) == ("pause", [["user", "mary"]])
    assert [line["command"] for line in lines[-2:]] == ["resume", "(unknown)"]
    assert sum(line.get("count", 1) for line in lines) == 5002
    passed_s = time.monotonic() - began_s
    assert len(lines) <= BURST["refused"] + 4 + passed_s / REFILL_S["refused"] + passed_s / MERGE_S
    assert max(map(len, (tmp_path / "audit.jsonl").read_bytes().splitlines())) < 2500
    assert verify_lines(tmp_path / "audit.jsonl").problems == []


def test_what_a_sender_says_forges_no_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    audit = Audit(tmp_path / "audit.jsonl")
    evil = "x\n12:00 INFO command pause: ok\x1b[2J\u202e\x9b"
    reply = CommandReplyMessage(command="x", status="refused", reason=evil, at="2026-11-22T10:00:00.000000Z")
    audit.note(Command(evil, evil.encode(), evil, None, ((evil, evil),)), reply)
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert not set(line) & set("\x1b\u202e\x9b")
    assert not set(caplog.messages[0]) & set("\n\x1b\u202e\x9b")


def test_an_audit_that_cannot_be_written_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"commands.audit: .* cannot be written"):
        Audit(tmp_path / "nowhere" / "audit.jsonl")


def test_a_snapshot_fits_into_a_message_or_is_not_made() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    frame = Frame(noise, 0, "host", 0, "a")
    small = snapshot_message(frame, unguarded(noise), 640)
    assert small is not None
    assert (small.width, small.height) == (640, 360)
    assert len(small.jpeg) <= JPEG_LIMIT_BYTES
    large = snapshot_message(frame, unguarded(noise), 1920)
    assert large is not None
    assert len(large.jpeg) <= JPEG_LIMIT_BYTES
    assert 640 < large.width < 1920
    assert snapshot_message(frame, unguarded(noise), 1920, 100) is None
