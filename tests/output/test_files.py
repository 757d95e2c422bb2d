import csv
import json
import os

import pytest

from edgepose.errors import OutputError
from edgepose.messages.compose import poses_message
from edgepose.messages.structs import encode
from edgepose.output.files import CSV_COLUMNS, CsvWriter, JsonLinesWriter, of_file
from testing.sample import CAPTURED_AT, sample_frame, sample_message


def test_json_lines_are_the_messages_and_visible_immediately(tmp_path):
    path = tmp_path / "poses.jsonl"
    with JsonLinesWriter(path) as writer:
        writer.write(sample_message())
        assert path.read_bytes() == encode(sample_message()) + b"\n"
        writer.write(poses_message(sample_frame(), [], CAPTURED_AT))
    people = [len(json.loads(line)["people"]) for line in path.read_text().splitlines()]
    assert people == [2, 0]


@pytest.mark.parametrize(("before", "lines"), [(b"", 1), (b'{"a":1}\n', 2), (b'{"a":1}\n{"unfinis', 3)])
def test_json_lines_are_appended(tmp_path, before, lines):
    path = tmp_path / "poses.jsonl"
    path.write_bytes(before)
    with JsonLinesWriter(path) as writer:
        writer.write(sample_message())
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == lines
    assert path.read_bytes().splitlines()[-1] == encode(sample_message())


def test_csv_has_one_row_per_person_under_one_header(tmp_path):
    path = tmp_path / "poses.csv"
    for _ in range(2):  # the second run appends
        with CsvWriter(path) as writer:
            writer.write(sample_message())
            writer.write(poses_message(sample_frame(), [], CAPTURED_AT))
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert len(CSV_COLUMNS) == 9 + 51
    assert {name: rows[0][name] for name in CSV_COLUMNS[:9]} == {
        "camera": "front",
        "sequence": "812",
        "captured_at": "2026-11-22T10:00:00.123456Z",
        "track": "7",
        "score": "0.832",
        "box_x": "100.0",
        "box_y": "50.0",
        "box_w": "60.1",
        "box_h": "170.5",
    }
    assert (rows[0]["left_eye_x"], rows[0]["left_eye_y"], rows[0]["left_eye_confidence"]) == ("103.3", "60.1", "0.15")
    assert rows[1]["track"] == ""


def test_another_csv_file_does_not_change(tmp_path):
    path = tmp_path / "poses.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match="another header"):
        CsvWriter(path)
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("kind", [JsonLinesWriter, CsvWriter])
def test_an_unwritable_path_is_named(tmp_path, kind):
    with pytest.raises(
        OutputError, match=r"^.*missing.* cannot be written: No such file or directory; expected a writable file in an existing folder$"
    ):
        kind(tmp_path / "missing" / "file")


def test_a_full_disk_is_named():
    with JsonLinesWriter("/dev/full") as writer, pytest.raises(OutputError, match="No space left on device"):
        writer.write(sample_message())


def test_a_pipe_is_written(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with JsonLinesWriter(path) as writer:
            writer.write(sample_message())
            assert os.read(reader, 65536) == encode(sample_message()) + b"\n"
    finally:
        os.close(reader)


def test_a_closed_pipe_is_reported(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with JsonLinesWriter(path) as writer:
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            writer.write(sample_message())


def test_a_pipe_without_a_reader_is_refused_immediately(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="pipe cannot be written: No such device or address; expected a reader at the other end"):
        JsonLinesWriter(tmp_path / "pipe")


@pytest.mark.parametrize("kind", [JsonLinesWriter, CsvWriter])
def test_only_the_first_frame_overwrites_an_existing_file(tmp_path, kind):
    path = tmp_path / "poses"
    path.write_text("left over\n")
    kind(path, overwrite=True).close()
    assert path.read_text() == "left over\n"
    with kind(path, overwrite=True) as writer:
        writer.write(sample_message())
        writer.write(sample_message())
    assert "left over" not in path.read_text()
    assert len(path.read_text().splitlines()) == (2 if kind is JsonLinesWriter else 5)
    kind(tmp_path / "new").close()
    assert not (tmp_path / "new").exists()


def test_texts_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    with CsvWriter(tmp_path / "a.csv", names_files=True) as writer:
        for source in ("=1+1", "+1", "-1", "@a", "\ta", "a=b", "plain, with comma"):
            writer.write(of_file(sample_message(), source))
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "source"
    assert [row["source"] for row in rows[::2]] == ["'=1+1", "'+1", "'-1", "'@a", "'\ta", "a=b", "plain, with comma"]
    assert {row["box_x"] for row in rows[::2]} == {"100.0"}
