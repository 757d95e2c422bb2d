"""The page of what strangers' inputs do: from a run of tests to a table."""

from pathlib import Path

import pytest

from tools.write_compatibility import Recorder, page

FILE = '''"""Files of strangers."""

import pytest


@pytest.mark.parametrize("suffix", ["heic", "a|b"])
def test_a_photo_is_refused(suffix):
    pass


@pytest.mark.parametrize("number", [1, 2])
def test_half_fails(number):
    assert number == 1


def test_another_machine_is_needed():
    pytest.skip("no GPU")
'''


def test_each_test_is_a_row_with_its_cases_and_result(tmp_path: Path) -> None:
    (tmp_path / "test_some_files.py").write_text(FILE)
    recorder = Recorder()
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path), str(tmp_path)], plugins=[recorder])
    text = page(recorder.rows, {"test_some_files.py": "Files of strangers."})
    assert "## Some files\n\nFiles of strangers.\n\n| what holds | inputs | result |" in text
    assert "| a photo is refused | `heic`, `a\\|b` | holds |" in text
    assert "| half fails | `1`, `2` | **fails**: 2 |" in text
    assert "| another machine is needed |  | not tried here: no GPU |" in text
