"""The black box with frames of our own: what is kept, for how long, and what faults do."""

import errno
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.config.schema import BlackBoxConfig as Settings
from edgepose.config.schema import CameraConfig, Config, RefineConfig, TrackConfig
from edgepose.errors import ConfigError, RecordingError, UnavailableError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.messages.compose import event_message, poses_message
from edgepose.messages.structs import encode
from edgepose.model.file import ModelFile, ModelInfo, read_model
from edgepose.person import Candidates
from edgepose.pipeline.frame_slots import QueuedFrame
from edgepose.pipeline.inference_thread import InferenceResult
from edgepose.pipeline.postprocess_thread import frame_record
from edgepose.pipeline.postprocessor import Postprocessor, PostprocessorState
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.replay import FailedFrame, refuse_overwriting, replay
from edgepose.pipeline.stages import FrameResult, PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.recorder import black_box
from edgepose.recorder.black_box import BlackBox
from edgepose.recorder.format import SUFFIX, FrameRecord, LossRecord, Record, SegmentHeader, StateRecord, first_line, packed, records
from edgepose.recorder.segments import SegmentRing
from edgepose.recorder.state_snapshot import decode_state
from edgepose.storage.records import packed_record
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile
from testing.onnx_files import write_edgepose, write_refiner
from testing.pipeline import RefinerBackend, opening
from testing.waiting import wait_for

IMAGE = np.zeros((480, 640, 3), np.uint8)
LETTERBOX = Letterbox.fit(480, 640, 256, 320)
GROUND = cv2.resize(np.random.default_rng(1).integers(0, 256, (60, 120, 3), np.uint8), (960, 480))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return read_model(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def config(folder: Path, settings: Settings | None = None) -> Config:
    zones = {"all": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]}
    return Config(
        cameras={"a": CameraConfig(source="x", zones=zones)},
        black_box=replace(settings or Settings(), path=str(folder)),
        track=TrackConfig(min_hits=1),
    )


class Daemon:
    """A postprocess thread without a thread: wandering candidates, a real postprocessor and a real black box."""

    def __init__(
        self,
        folder: Path,
        model: ModelFile,
        settings: Settings | None = None,
        *,
        refine: RefineConfig | None = None,
        refiner: Refiner | None = None,
        flying: bool = False,
    ) -> None:
        self.config = replace(config(folder, settings), refine=refine or RefineConfig())
        self.box = BlackBox(self.config, model)
        self.box.start()
        self.stage = Postprocessor("a", self.config, Metrics(), refiner, lambda: bool(self._random.integers(2)))
        self.image = IMAGE
        self.motions = 0
        self._flying = flying
        self.said: list[bytes] = []
        self._number = 0
        self._random = np.random.default_rng(0)

    def run(self, frames: int, *, failed: bool = False, camera: str = "a", epoch: int = 0) -> None:
        for _ in range(frames):
            self._number += 1
            image, visited = self._flight() if self._flying else (self.image, None)
            frame = Frame(image, 10**18 + self._number * 100_000_000, "stream", self._number, camera, epoch)
            prepared = PreparedFrame(frame, LETTERBOX, LETTERBOX.apply(image)[None])
            inferred = InferenceResult(QueuedFrame(prepared, True, 0), self._candidates(), visited)
            snapshot = self.stage.snapshot() if self.box.wants_snapshot(camera) else None
            people = self.stage.people(prepared, inferred.candidates, visited=visited)
            self.motions += self.stage.motion is not None and not self.stage.motion.still
            at_ns = frame.captured_at_ns + 5_000_000
            if failed:
                self.stage.reset()
            else:
                self.said += lines(FrameResult(frame, people, self.stage.events, at_ns, True))
            self.box.add(frame_record(inferred, self.stage, self.config, at_ns, failed=failed, snapshot=snapshot))

    def _flight(self) -> tuple[NDArray[np.uint8], tuple[Tile, ...]]:
        """Return the next frame of a camera that flies over textured ground, and the tiles that are visited in it."""
        shift = 5 * (self._number % 50)
        left = int(self._random.integers(0, 320))
        return np.ascontiguousarray(GROUND[:480, shift : shift + 640]), (Tile(left, 0, left + 320, 256),)

    def _candidates(self) -> Candidates:
        places = (
            self._random.normal(0, 0.5, (1, 3, 19, 2))
            + np.arange(19)[:, None] * (1.0, 5.0)
            + [[[[30.0, 20]]], [[[120.0, 60]]], [[[200.0, 10]]]][0]
        )
        places = places + np.arange(3)[None, :, None, None] * (80, 0)
        boxes = np.concatenate((places.min(2), places.max(2)), 2)
        scores = np.array([[0.9, 0.5, self._random.uniform(0, 0.4)]])
        keypoints = np.concatenate((places[:, :, :17], self._random.uniform(0, 1, (1, 3, 17, 1))), 3)
        return Candidates(*(array.astype(np.float32) for array in (boxes, scores, keypoints)))


def lines(result: FrameResult) -> list[bytes]:
    poses = encode(poses_message(result.frame, result.people, result.at_ns))
    return [poses, *(encode(event_message(event)) for event in result.events)]


def again(recording: Path) -> list[bytes]:
    return [line for played in replay(recording) if isinstance(played, FrameResult) for line in lines(played)]


def recordings(folder: Path, reason: str) -> list[Path]:
    return sorted(folder.glob(f"*Z-{reason}*"))


def test_a_recording_gives_the_same_messages_from_any_segment_on(tmp_path: Path, model: ModelFile) -> None:
    daemon = Daemon(tmp_path, model)
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
    daemon = Daemon(tmp_path, model, flying=True)
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
    daemon = Daemon(tmp_path / "box", model, refine=refine, refiner=refiner)
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
    daemon = Daemon(tmp_path, model)
    daemon.run(5)
    daemon.box.begin()
    daemon.run(5)
    assert daemon.box.persist("asked", wait_s=10)
    daemon.box.close()
    (recording,) = recordings(tmp_path, "asked")
    assert [path.stat().st_mode & 0o777 for path in recording.iterdir()] == [0o440, 0o440]


def test_the_ring_holds_the_last_minutes_and_no_more(tmp_path: Path, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(black_box, "SEGMENT_S", 0.02)
    daemon = Daemon(tmp_path, model, Settings(minutes=0.005))  # 0.3 s
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
    daemon = Daemon(tmp_path, model, Settings(limit_mb=1))
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
    daemon = Daemon(tmp_path, model)
    daemon.run(3)
    daemon.box.watch({"inference": 1})
    daemon.box.watch({"inference": 2, "postprocess": 0})
    daemon.box.watch({"inference": 2, "postprocess": 1})
    daemon.box.close(timeout_s=5)
    assert [len(recordings(tmp_path, f"{stage}-restarted")) for stage in ("inference", "postprocess")] == [1, 1]


def test_a_failure_at_the_end_is_recorded_and_an_end_in_order_is_not(tmp_path: Path, model: ModelFile) -> None:
    for folder, failure in ((tmp_path / "failed", "failure"), (tmp_path / "fine", None)):
        daemon = Daemon(folder, model)
        daemon.run(5)
        daemon.box.close(failure, timeout_s=5)
        assert len(recordings(folder, "failure")) == (failure is not None)
        BlackBox(daemon.config, model).start()
        assert recordings(folder, "unexpected-exit") == []


def test_the_ring_of_a_killed_run_becomes_a_recording(tmp_path: Path, model: ModelFile) -> None:
    daemon = Daemon(tmp_path, model)
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
        daemon = Daemon(tmp_path, model)
        daemon.run(3)
        daemon.box.close(timeout_s=5)
    assert foreign.read_bytes() == b"gold"
    assert recordings(tmp_path, "unexpected-exit") == []


def test_a_folder_belongs_to_one_daemon_as_long_as_that_lives(tmp_path: Path, model: ModelFile) -> None:
    daemon = Daemon(tmp_path, model)
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
    daemon = Daemon(tmp_path, model)
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
    daemon = Daemon(tmp_path, model)
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
    daemon = Daemon(tmp_path / "box", model)
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


@pytest.fixture
def segment(tmp_path: Path, model: ModelFile) -> Path:
    daemon = Daemon(tmp_path / "box", model)
    daemon.run(20)
    daemon.box.close(timeout_s=5)
    path = tmp_path / "box" / "ring" / "00000001.segment"
    path.chmod(0o640)
    return path


def test_a_torn_end_is_no_damage(segment: Path) -> None:
    whole = again(segment)
    data = segment.read_bytes()
    segment.write_bytes(data[:-7])
    assert again(segment) == whole[: len(again(segment))]
    assert len(again(segment)) >= len(whole) - 2


@pytest.mark.parametrize("written", [0, 5])
def test_a_segment_that_was_only_begun_is_no_damage(segment: Path, written: int) -> None:
    whole = again(segment.parent)
    (segment.parent / "00000099.segment").write_bytes(first_line()[:written])
    assert again(segment.parent) == whole


def test_damage_costs_what_it_hits_and_is_counted(segment: Path) -> None:
    data, whole = segment.read_bytes(), list(records(segment))
    random = np.random.default_rng(3)
    for place in random.integers(0, len(data), 100):
        broken = bytearray(data)
        broken[place] ^= 1 << random.integers(0, 8)
        segment.write_bytes(broken)
        try:
            found = list(records(segment))
        except RecordingError:  # the first line, or the one header without which nothing can be replayed
            assert place < 3000
            continue
        kept = [record for record in found if not isinstance(record, LossRecord)]
        lost = [record for record in found if isinstance(record, LossRecord)]
        assert kept == [record for record in whole if record in kept]
        assert len(lost) <= 1
        assert len(whole) - len(kept) == len(lost)
        assert all(record.damaged and record.records in (1, None) for record in lost)


def test_a_damaged_recording_is_replayed_around_the_damage(segment: Path) -> None:
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert 15 <= len(again(segment)) <= 25
    assert [record.records for record in records(segment) if isinstance(record, LossRecord)] == [1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no records"),
        (b"something else\n", "is not a recording"),
        (first_line() + packed(LossRecord(records=1), 1), "holds no records that verify"),
        (first_line() + packed_record(1, 1, b"\x00\x01\x02"), "another version"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.segment").write_bytes(content)
    with pytest.raises(RecordingError, match=said):
        list(records(tmp_path / "a.segment"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="holds no recording"):
        list(records(tmp_path / "empty"))
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        list(records(tmp_path / "missing"))


def test_a_recording_of_format_1_is_refused_in_one_sentence(tmp_path: Path) -> None:
    segment = tmp_path / "a.segment"
    segment.write_bytes(b"edgepose black box 1\n" + packed(LossRecord(records=1), 1))
    for path in (segment, tmp_path):
        with pytest.raises(RecordingError) as caught:
            list(records(path))
        assert str(caught.value) == (
            f"{segment} is a recording of black box format 1; expected format 4, or a replay with the version of edgepose that recorded it"
        )
    with pytest.raises(ConfigError, match="is part of a recording"):  # nor is it written over
        refuse_overwriting(tmp_path / "other", [segment])


class _Evil:
    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return (print, ("built",))


def test_a_snapshot_builds_nothing_but_plain_values(capsys: pytest.CaptureFixture[str]) -> None:
    for evil in (pickle.dumps(_Evil()), b"cos\nsystem\n(S'true'\ntR.", b"cedgepose.pose.track\nTracker.update\n.", b"nonsense", b""):
        with pytest.raises(RecordingError):
            decode_state(evil, PostprocessorState)
    assert capsys.readouterr().out == ""


def test_no_pixels_and_no_addresses_are_kept(segment: Path) -> None:
    held: list[Record] = list(records(segment))
    header = held[0]
    assert isinstance(header, SegmentHeader)
    assert header.settings.cameras["a"].source == "-"
    assert header.settings.mqtt == Config().mqtt
    assert all(isinstance(record, FrameRecord) for record in held[1:])
    assert segment.stat().st_size / 20 < 3000
