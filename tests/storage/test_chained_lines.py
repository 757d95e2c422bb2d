"""Chained lines: what was changed, deleted or reordered shows."""

import pytest

from edgepose.storage.chained_lines import ChainedLines, forget_lines, verify_lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "commands.jsonl"


def written(path, count=10, limit_bytes=1 << 20):
    lines = ChainedLines(path, limit_bytes)
    for number in range(count):
        lines.append({"at": "now", "command": f"c{number}"})


def edited(path, edit):
    lines = path.read_bytes().splitlines(keepends=True)
    edit(lines)
    path.write_bytes(b"".join(lines))


def test_what_was_written_verifies_across_runs_and_files(path):
    for _ in range(4):
        written(path, 10, 1500)
    found = verify_lines(path)
    assert found.problems == []
    assert 10 < found.lines < 40
    assert path.with_name("commands.jsonl.1").exists()
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in path.parent.iterdir())


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: lines.pop(3), "commands.jsonl line 4: number 4 is missing"),
        (lambda lines: lines.pop(0), "commands.jsonl line 1: number 1 is missing"),
        (lambda lines: lines.pop(), "the last lines are missing: number 9 is the last, and 10 was written"),
        (lambda lines: lines.clear(), "the last lines are missing: number 0 is the last, and 10 was written"),
        (lambda lines: lines.insert(3, lines.pop(4)), "commands.jsonl line 4: number 4 is missing"),
        (lambda lines: lines.insert(5, lines[2]), "commands.jsonl line 6: number 3 comes after 5"),
        (lambda lines: lines.__setitem__(3, lines[3].replace(b"c3", b"c9")), "commands.jsonl line 4: number 4 does not match its hash"),
        (lambda lines: lines.insert(2, b'{"command":"forged"}\n'), "commands.jsonl line 3 is no line of edgepose"),
        (lambda lines: lines.insert(2, b"\n"), "commands.jsonl line 3 is no line of edgepose"),
    ],
)
def test_what_was_done_to_it_is_named(path, edit, said):
    written(path)
    edited(path, edit)
    assert said in verify_lines(path).problems


@pytest.mark.parametrize("missing", ["commands.jsonl.1", "commands.jsonl.head", "commands.jsonl"])
def test_a_missing_file_shows(path, missing):
    written(path, 20, 1500)
    path.with_name(missing).unlink()
    assert verify_lines(path).problems


def test_a_line_that_was_written_before_its_head_is_good(path):
    written(path, 3)
    head = path.with_name("commands.jsonl.head").read_bytes()
    written(path, 1)
    path.with_name("commands.jsonl.head").write_bytes(head)
    assert verify_lines(path).problems == []
    written(path, 1)
    assert verify_lines(path) == type(verify_lines(path))(5, 0, verify_lines(path).last, [])


def test_lines_of_an_earlier_version_are_counted(path):
    path.write_bytes(b'{"at":"2026-11-22T10:00:00.000000Z","command":"pause"}\n' * 3)
    written(path, 2)
    found = verify_lines(path)
    assert (found.lines, found.unchained, found.problems) == (2, 3, [])


def test_lines_that_are_forgotten_leave_a_record_that_verifies_and_goes_on(path):
    lines = ChainedLines(path, 1500)
    for number in range(20):
        lines.append({"at": "now", "command": f"c{number}"})
    lines.close()
    before = verify_lines(path).lines
    assert forget_lines(path, lambda line: b'"c18"' in line or b'"c12"' in line) == 2
    lines.append({"at": "now", "command": "after"})
    found = verify_lines(path)
    assert found.problems == []
    assert found.lines == before - 1
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b'"c18"' not in content
    assert b'"c17"' in content
