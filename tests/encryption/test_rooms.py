"""The rooms with encrypted files: damage costs what it hits, is counted, and is told as it is of clear files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepose.encryption.encrypted_files import EncryptedFiles
from edgepose.encryption.files import use_files
from edgepose.encryption.master_keys import MasterKey
from edgepose.messages.compose import poses_message
from edgepose.model.file import read_model
from edgepose.output.files import JsonLinesWriter
from edgepose.output.lines_limit import LinesLimit
from edgepose.recorder.format import FrameRecord, LossRecord, records
from edgepose.storage.chained_lines import ChainedLines, verify_lines
from edgepose.storage.event_file import EventFile
from testing.onnx_files import write_edgepose
from testing.recording import RecordingDaemon, again
from testing.sample import sample_frame, sample_person


@pytest.fixture
def files() -> Iterator[EncryptedFiles]:
    encrypted = EncryptedFiles([MasterKey.new()])
    before = use_files(encrypted)
    yield encrypted
    use_files(before)


def flip(place: Path, block: int) -> None:
    raw = bytearray(place.read_bytes())
    raw[block * 1024 + 500] ^= 1
    place.write_bytes(raw)


def cut(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:-1024])


def stored(path: Path) -> None:
    file = EventFile(path)
    for number in range(10):
        file.append([("topic", b"%d" % number)], [])
    file.close()


def test_of_a_damaged_event_store_the_other_events_are_sent_and_the_lost_one_is_counted(files: EncryptedFiles, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    stored(path)
    flip(files.place(path), 7)  # key, length, first line, then an event each
    file = EventFile(path)
    file.close()
    assert [payload for _, payload in file.recovered.messages.values()] == [b"%d" % number for number in range(10) if number != 4]
    assert (file.recovered.lost, file.recovered.damaged, file.set_aside) == (1, True, "events.db.damaged")
    assert files.damage == {"damaged": 1}
    assert files.names(tmp_path) == ["events.db", "events.db.damaged"]
    file = EventFile(path)  # what verifies was written anew
    file.close()
    assert (len(file.recovered.messages), file.recovered.damaged) == (9, False)


def test_a_cut_event_store_says_that_the_newest_are_gone(files: EncryptedFiles, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    stored(path)
    cut(files.place(path))
    file = EventFile(path)
    file.close()
    assert len(file.recovered.messages) == 9
    assert file.recovered.lost is None
    assert files.damage == {"cut": 1}


def test_a_damaged_line_of_the_audit_shows(files: EncryptedFiles, tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    for number in range(6):
        lines = ChainedLines(path, 1 << 20)
        lines.append({"at": "now", "command": f"c{number}"})
        lines.close()
    assert verify_lines(path).problems == []
    assert verify_lines(path).lines == 6
    flip(files.place(path), 4)
    assert verify_lines(path).problems
    assert sorted(files.names(tmp_path)) == ["commands.jsonl", "commands.jsonl.head"]


def test_a_damaged_recording_replays_around_the_damage(files: EncryptedFiles, tmp_path: Path) -> None:
    daemon = RecordingDaemon(tmp_path / "box", read_model(write_edgepose(tmp_path / "tiny.onnx")))
    daemon.run(40)
    recording = daemon.box.record("test")
    assert recording.done.wait(60)
    daemon.box.close()
    assert recording.place is not None
    assert again(recording.place) == daemon.said
    segment = recording.place / files.names(recording.place)[0]
    flip(files.place(segment), 30)
    found = list(records(segment))
    assert any(isinstance(record, LossRecord) and record.damaged for record in found)
    assert sum(isinstance(record, FrameRecord) for record in found) >= 36
    assert again(recording.place)


def test_lines_continue_over_restarts_and_limits(files: EncryptedFiles, tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    message = poses_message(sample_frame(), [sample_person()], 0)
    for _ in range(3):
        with JsonLinesWriter(path, limit=LinesLimit(40_000, 10**30)) as writer:
            for _ in range(6):
                writer.write(message)
    assert files.names(tmp_path) == ["poses.jsonl", "poses.jsonl.1"]
    lines = [line for name in files.names(tmp_path) for line in files.load(tmp_path / name, "output").splitlines()]
    assert len(lines) == 18
    assert len(set(lines)) == 1
    assert not files.damage
    with JsonLinesWriter(path, overwrite=True) as writer:
        writer.write(message)
    assert files.load(path, "output").splitlines() == lines[:1]
