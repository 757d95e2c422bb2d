"""Damaged recordings: what is lost, what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepose.config.schema import Config
from edgepose.errors import ConfigError, RecordingError
from edgepose.model.file import ModelFile, read_model
from edgepose.pipeline.postprocessor import PostprocessorState
from edgepose.pipeline.replay import refuse_overwriting
from edgepose.recorder.format import FrameRecord, LossRecord, Record, SegmentHeader, first_line, packed, records
from edgepose.recorder.state_snapshot import decode_state
from edgepose.storage.records import packed_record
from testing.onnx_files import write_edgepose
from testing.recording import RecordingDaemon, again


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    return read_model(write_edgepose(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def segment(tmp_path: Path, model: ModelFile) -> Path:
    daemon = RecordingDaemon(tmp_path / "box", model)
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
    header_end = len(first_line()) + len(packed(whole[0], 0))
    random = np.random.default_rng(3)
    for place in random.integers(0, len(data), 100):
        broken = bytearray(data)
        broken[place] ^= 1 << random.integers(0, 8)
        segment.write_bytes(broken)
        try:
            found = list(records(segment))
        except RecordingError:  # the first line, or the one header without which nothing can be replayed
            assert place < header_end
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
            f"{segment} is a recording of black box format 1; expected format 5, or a replay with the version of edgepose that recorded it"
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
