"""Result files: what is too old or too much goes, and a span is deleted line by line."""

import os

import pytest

from edgepose.messages.compose import poses_message
from edgepose.output.files import CsvWriter, JsonLinesWriter
from edgepose.output.lines_limit import LinesLimit, time_of_line
from edgepose.output.retention import forget_pictures, forget_result_lines, remove_pictures, remove_result_lines
from edgepose.storage.span import Span
from testing.sample import sample_frame, sample_person

HOUR_NS = 3600 * 10**9


def message(number, camera="front"):
    from dataclasses import replace

    frame = replace(sample_frame(), camera=camera, captured_at_ns=1_800_000_000 * 10**9 + number * HOUR_NS, sequence=number)
    return poses_message(frame, [sample_person()], frame.captured_at_ns)


def numbers(path):
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [(found[1] - 1_800_000_000 * 10**9) // HOUR_NS for line in lines if (found := time_of_line(line)) is not None]


@pytest.mark.parametrize("kind", [JsonLinesWriter, CsvWriter])
def test_a_file_and_the_one_before_stay_within_their_size(tmp_path, kind):
    path = tmp_path / "poses"
    with kind(path, limit=LinesLimit(20_000, 10**9 * HOUR_NS)) as writer:
        for number in range(100):
            writer.write(message(number))
    before = tmp_path / "poses.1"
    assert path.stat().st_size + before.stat().st_size <= 22_000
    kept = [*numbers(before), *numbers(path)]
    assert kept == list(range(kept[0], 100))
    assert len(kept) > 5
    if kind is CsvWriter:
        assert path.read_text().splitlines()[0] == before.read_text().splitlines()[0]


def test_a_file_whose_first_line_is_old_makes_room(tmp_path):
    path = tmp_path / "poses"
    with JsonLinesWriter(path) as writer:
        writer.write(message(-10_000_000 // 3600 - 300_000))  # decades ago
    with JsonLinesWriter(path, limit=LinesLimit(10**9, HOUR_NS)) as writer:
        writer.write(message(0))
        writer.write(message(1))
    assert numbers(path) == [0, 1]
    assert len(numbers(tmp_path / "poses.1")) == 1


def test_what_nobody_wrote_to_for_long_is_removed(tmp_path):
    path = tmp_path / "poses"
    for each, age in ((path, 3), (tmp_path / "poses.1", 5)):
        each.write_bytes(b"x")
        os.utime(each, ns=(100 * HOUR_NS - age * HOUR_NS,) * 2)
    assert remove_result_lines(path, 8 * HOUR_NS, 100 * HOUR_NS) == 1
    assert path.exists()


@pytest.mark.parametrize("kind", [JsonLinesWriter, CsvWriter])
def test_a_span_of_one_camera_is_deleted_line_by_line(tmp_path, kind):
    path = tmp_path / "poses"
    with kind(path) as writer:
        for number in range(6):
            writer.write(message(number, "front" if number != 3 else "back"))
    begin = 1_800_000_000 * 10**9
    assert forget_result_lines(path, Span(begin + 2 * HOUR_NS, begin + 4 * HOUR_NS, "front")) == 2
    assert numbers(path) == [0, 1, 3, 5]
    assert forget_result_lines(path, Span()) == 4
    assert numbers(path) == []
    assert (kind is CsvWriter) == bool(path.read_bytes())  # the header stays


def test_images_go_by_age_by_size_and_by_span(tmp_path):
    for number in range(8):
        path = tmp_path / f"front-0-{number:06d}.jpg"
        path.write_bytes(bytes(1000))
        os.utime(path, ns=(number * HOUR_NS,) * 2)
    (tmp_path / "other.txt").write_bytes(bytes(9000))

    def left():
        return sorted(int(path.stem[-1]) for path in tmp_path.glob("*.jpg"))

    def ours(name):
        return name.endswith(".jpg")

    assert remove_pictures(tmp_path, ours, 2 * HOUR_NS, 10**9) == 2
    assert left() == [2, 3, 4, 5, 6, 7]
    assert remove_pictures(tmp_path, ours, 0, 4500) == 2
    assert left() == [4, 5, 6, 7]
    assert forget_pictures(tmp_path, ours, Span(5 * HOUR_NS, 6 * HOUR_NS)) == 2
    assert left() == [4, 7]
    assert (tmp_path / "other.txt").exists()
