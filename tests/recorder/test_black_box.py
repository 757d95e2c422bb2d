"""The black box with frames of our own: what is kept, for how long, and what faults do."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.config.aircraft import FlightConfig
from edgepose.config.schema import BlackBoxConfig as Settings
from edgepose.config.schema import RefineConfig
from edgepose.errors import UnavailableError
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import ModelFile, ModelInfo, read_model
from edgepose.pipeline.postprocessor import PostprocessorState
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.replay import FailedFrame, replay
from edgepose.recorder import black_box
from edgepose.recorder.black_box import BlackBox
from edgepose.recorder.format import SUFFIX, FrameRecord, LossRecord, Record, SegmentHeader, StateRecord, records
from edgepose.recorder.segments import SegmentRing
from edgepose.recorder.state_snapshot import decode_state
from edgepose.telemetry.metrics import Metrics
from testing.onnx_files import write_edgepose, write_refiner
from testing.pipeline import RefinerBackend, opening
from testing.recording import RecordingDaemon, again, config, recordings
from testing.waiting import wait_for


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return read_model(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def test_a_recording_gives_the_same_messages_from_any_segment_on(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(40)
    daemon.run(3, failed=True)
    daemon.box.begin()  # as after a segment's time
    daemon.run(40, epoch=1)
    daemon.box.configure(daemon.config)
    daemon.run(20, epoch=1)
    assert daemon.box.persist("asked", wait_s=10)
    (recording,) = recordings(tmp_path, "asked")
    assert again(recording) == daemon.said
    assert sum(b'"kind"' in line for line in daemon.said) >= 4
    assert sum(isinstance(played, FailedFrame) for played in replay(recording)) == 3
    segments = sorted(recording.glob(f"*{SUFFIX}"))
    assert len(segments) == 3
    for first in (1, 2):
        tail = again(segments[first])
        assert len(tail) >= 20
        assert daemon.said[-len(tail) :] == tail if first == 2 else tail[0] in daemon.said
    daemon.box.close()


def test_a_recording_of_a_flying_camera_with_tiles_gives_the_same_messages(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model, flying=True)
    daemon.run(40)
    daemon.box.begin()
    daemon.run(40)
    assert daemon.box.persist("asked", wait_s=10)
    (recording,) = recordings(tmp_path, "asked")
    assert daemon.motions > 60
    assert sum(isinstance(record, FrameRecord) and bool(record.visited) for record in records(recording)) == 80
    assert again(recording) == daemon.said
    first, second = sorted(recording.glob(f"*{SUFFIX}"))
    assert daemon.said[-len(again(second)) :] == again(second)
    assert len(again(first)) >= 40
    daemon.box.close()


def test_a_recording_with_telemetry_gives_the_same_places_speeds_and_events(tmp_path: Path, model: ModelFile) -> None:
    path = tmp_path / "places.geojson"
    corners = [[7.9, 46.9], [8.1, 46.9], [8.1, 47.1], [7.9, 47.1]]
    zone = {"type": "Feature", "properties": {"name": "field"}, "geometry": {"type": "Polygon", "coordinates": [corners]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [zone]}))
    daemon = RecordingDaemon(tmp_path / "box", model, flight=FlightConfig(source="mqtt", topic="t", places_file=str(path)))
    daemon.run(40)
    daemon.box.begin()  # the second segment starts with paths, from which it computes speeds
    daemon.run(40)
    assert daemon.box.persist("asked", wait_s=10)
    (recording,) = recordings(tmp_path / "box", "asked")
    said = [json.loads(line) for line in daemon.said]
    assert {message["aircraft"]["state"] for message in said if "people" in message} == {"ok"}
    assert sum("speed_mps" in person.get("ground", {}) for message in said for person in message.get("people", [])) > 100
    assert [message["zone"] for message in said if message.get("kind") == "zone_entered" and message["zone"] == "field"]
    assert again(recording) == daemon.said
    tail = again(sorted(recording.glob(f"*{SUFFIX}"))[-1])
    assert len(tail) >= 40
    assert daemon.said[-len(tail) :] == tail
    path.unlink()
    assert again(recording) == daemon.said
    daemon.box.close()


class Agreeing(RefinerBackend):
    """A refiner that finds the figures of `Daemon`: a line through the box."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__()
        assert info.crop_margin is not None
        height, width = info.crop_shape
        along = (np.arange(17) / 18 - 0.5)[:, None] * (0.2 * height, height) / info.crop_margin + (width / 2, height / 2)
        self._found = np.concatenate((along, np.full((17, 1), 0.9)), 1).astype(np.float32)

    def run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.broadcast_to(self._found, super().run(crops).shape)


@pytest.mark.parametrize("agreeing", [False, True])
def test_a_recording_with_people_refined_in_turns_or_too_small_gives_the_same_messages(
    tmp_path: Path, model: ModelFile, agreeing: bool
) -> None:
    file = read_model(write_refiner(tmp_path / "again.onnx"))
    network = Agreeing(file.info) if agreeing else RefinerBackend()
    metrics = Metrics()
    refiner = Refiner(file, opening(network), metrics)
    refiner.open()
    posed: list[bool] = []
    refine = RefineConfig(people=2, min_height_px=182)  # the figures are about as tall
    daemon = RecordingDaemon(tmp_path / "box", model, refine=refine, refiner=refiner)
    daemon.image = np.full((480, 640, 3), 200, np.uint8)
    for _ in range(30):
        refiner.cost_ms = 100.0  # one person between two frames
        daemon.run(1)
        assert daemon.stage.refined is not None
        posed += [person.has_pose for person in daemon.stage.refined]
    assert 0 < sum(posed) < len(posed)
    assert 0 < sum(network.crops) < sum(posed)
    counts = metrics.refinement()
    assert counts is not None
    assert (counts.accepted > 0) == agreeing
    daemon.box.begin()  # the second segment starts with poses that are carried
    snapshot = decode_state(daemon.stage.snapshot(), PostprocessorState)
    assert bool(snapshot.carried.refined) == agreeing
    daemon.run(20)
    assert daemon.box.persist("asked", wait_s=10)
    (recording,) = recordings(tmp_path / "box", "asked")
    assert again(recording) == daemon.said
    tail = again(sorted(recording.glob(f"*{SUFFIX}"))[-1])
    assert daemon.said[-len(tail) :] == tail
    daemon.box.close()


def test_all_segments_of_a_recording_are_for_reading_only(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(5)
    daemon.box.begin()
    daemon.run(5)
    assert daemon.box.persist("asked", wait_s=10)
    daemon.box.close()
    (recording,) = recordings(tmp_path, "asked")
    assert [path.stat().st_mode & 0o777 for path in recording.iterdir()] == [0o440, 0o440]


def test_the_ring_holds_the_last_minutes_and_no_more(tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(black_box, "SEGMENT_S", 0.02)
    daemon = RecordingDaemon(tmp_path, model, Settings(minutes=0.005))  # 0.3 s
    inferred: set[str] = set()

    def turned() -> bool:
        daemon.run(5)
        there = {path.name for path in (tmp_path / "ring").glob(f"*{SUFFIX}")}
        inferred.update(there)
        return len(inferred) > 60

    wait_for(turned, within_s=30)
    assert "00000001.segment" not in {path.name for path in (tmp_path / "ring").iterdir()}
    daemon.box.close()


def test_the_oldest_recordings_make_place_for_new_ones(tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "photos"
    mine.mkdir()
    os.utime(mine, (0, 0))
    daemon = RecordingDaemon(tmp_path, model, Settings(limit_mb=1))
    for number in range(8):
        daemon.run(150)
        assert daemon.box.persist(f"fault{number}", wait_s=10)
    daemon.box.close(timeout_s=5)
    kept = [path.name.rpartition("-")[2] for path in recordings(tmp_path, "fault")]
    assert "fault7" in kept
    assert "fault0" not in kept
    assert mine.exists()  # older than all, and not made by a black box
    files = {file.stat().st_ino: file.stat().st_size for file in tmp_path.rglob(f"*{SUFFIX}")}
    assert sum(files.values()) <= 1_000_000


def test_the_same_fault_makes_one_recording_a_minute(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(3)
    daemon.box.watch({"inference": 1})
    daemon.box.watch({"inference": 2, "postprocess": 0})
    daemon.box.watch({"inference": 2, "postprocess": 1})
    daemon.box.close(timeout_s=5)
    assert [len(recordings(tmp_path, f"{stage}-restarted")) for stage in ("inference", "postprocess")] == [1, 1]


def test_a_failure_at_the_end_is_recorded_and_an_end_in_order_is_not(tmp_path: Path, model: ModelFile) -> None:
    for folder, failure in ((tmp_path / "failed", "failure"), (tmp_path / "fine", None)):
        daemon = RecordingDaemon(folder, model)
        daemon.run(5)
        daemon.box.close(failure, timeout_s=5)
        assert len(recordings(folder, "failure")) == (failure is not None)
        BlackBox(daemon.config, model).start()
        assert recordings(folder, "unexpected-exit") == []


def test_the_ring_of_a_killed_run_becomes_a_recording(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(30)
    wait_for(lambda: (tmp_path / "ring" / "00000001.segment").stat().st_size > 10_000)
    daemon.box._folder.release()  # as after a power cut
    BlackBox(daemon.config, model).start()
    (recording,) = recordings(tmp_path, "unexpected-exit")
    played = again(recording)
    assert daemon.said[: len(played)] == played
    assert len(played) > 10


def test_files_of_others_in_the_folder_stay(tmp_path: Path, model: ModelFile) -> None:
    foreign = tmp_path / "ring" / "of-my-grandmother.jpg"
    foreign.parent.mkdir()
    foreign.write_bytes(b"gold")
    for _ in range(2):
        daemon = RecordingDaemon(tmp_path, model)
        daemon.run(3)
        daemon.box.close(timeout_s=5)
    assert foreign.read_bytes() == b"gold"
    assert recordings(tmp_path, "unexpected-exit") == []


def test_a_folder_belongs_to_one_daemon_as_long_as_that_lives(tmp_path: Path, model: ModelFile) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(5)
    with pytest.raises(UnavailableError, match=r"^another edgepose writes its black box into .*; expected a folder of its own"):
        BlackBox(daemon.config, model).start()
    daemon.run(5)
    assert daemon.box.persist("asked", wait_s=10)
    assert again(*recordings(tmp_path, "asked")) == daemon.said
    assert recordings(tmp_path, "unexpected-exit") == []
    daemon.box.close(timeout_s=5)
    after = BlackBox(daemon.config, model)
    after.start()
    after.close(timeout_s=5)


def test_states_and_losses_are_kept(tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    daemon.run(3)
    daemon.box.state(CameraState("a", "failed", "refused", "camera a: refused", 2))
    wait_for(daemon.box._queue.empty)
    put, full = daemon.box._put, [True, True]

    def busy(item: tuple[SegmentHeader | None, Record]) -> bool:
        if full:
            full.pop()
            daemon.box._lose("busy")
            return False
        return put(item)

    monkeypatch.setattr(daemon.box, "_put", busy)
    daemon.run(10)
    assert daemon.box.persist("asked", wait_s=10)
    assert daemon.box.drops == {"busy": 2}
    (recording,) = recordings(tmp_path, "asked")
    played = list(records(recording))
    assert [record.records for record in played if isinstance(record, LossRecord)] == [2]
    (state,) = (record for record in played if isinstance(record, StateRecord))
    assert (state.camera, state.state, state.cause, state.epoch) == ("a", "failed", "refused", 2)
    assert again(recording)[-8:] == daemon.said[-8:]  # from a new snapshot
    daemon.box.close()


def test_a_full_disk_loses_records_and_says_when_it_is_over(
    tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = RecordingDaemon(tmp_path, model)
    begin = SegmentRing.begin

    def full(ring: SegmentRing, header: SegmentHeader) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def works_again() -> bool:
        daemon.run(1)
        return "the black box can be written again" in caplog.text

    monkeypatch.setattr(SegmentRing, "begin", full)
    daemon.run(5)
    wait_for(lambda: daemon.box.drops["failed"])
    monkeypatch.setattr(SegmentRing, "begin", begin)
    with caplog.at_level("INFO", "edgepose"):
        wait_for(works_again)
    assert daemon.box.persist("asked", wait_s=10)
    assert len(again(*recordings(tmp_path, "asked"))) >= 1
    daemon.box.close()


def test_a_folder_that_is_deleted_while_it_is_used_is_there_again_soon(
    tmp_path: Path, model: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = RecordingDaemon(tmp_path / "box", model)
    daemon.run(5)
    wait_for(lambda: list((tmp_path / "box" / "ring").glob("*.segment")))
    time.sleep(1.2)  # until it is written
    shutil.rmtree(tmp_path / "box")

    def is_back() -> bool:
        daemon.run(1)
        return (tmp_path / "box" / "ring").is_dir() and "the black box can be written again" in caplog.text

    with caplog.at_level("INFO", "edgepose"):
        wait_for(is_back, every_s=0.1, promised_s=3)
    assert daemon.box.persist("asked", wait_s=10)
    assert again(*recordings(tmp_path / "box", "asked"))
    daemon.box.close(timeout_s=5)
    second = BlackBox(config(tmp_path / "box"), model)
    second.start()
    with pytest.raises(UnavailableError):  # the new folder is locked, too
        BlackBox(config(tmp_path / "box"), model).start()
    second.close()
