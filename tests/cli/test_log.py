"""Log lines on standard error: as text, for the journal, and as JSON."""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepose.cli.log import JsonFormatter, PriorityFormatter, is_journal
from testing.onnx_files import write_edgepose
from testing.waiting import wait_for


def record(level: int, message: str, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "edgepose.x", "levelno": level, "levelname": logging.getLevelName(level), "msg": message})
    vars(made).update(extra)
    return made


@contextmanager
def running(folder: Path, *settings: str, journal: bool = False) -> Iterator[Path]:
    """Run a daemon whose camera does not respond, and yield the file that replaces the journal's pipe."""
    (folder / "config.yaml").write_text(
        "cameras: {front: {source: 'rtsp://pilot:s3cret@127.0.0.1:1/cam', reconnect_maximum_s: 0.5}}\n"
        f"model: {{path: {write_edgepose(folder / 'tiny.onnx')}, threads: 1}}\nmqtt: {{enabled: false}}\n"
    )
    log = folder / "log"
    with log.open("wb") as stream:
        status = os.fstat(stream.fileno())
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino if journal else 1}"}
        arguments = [each for setting in settings for each in ("--set", setting)]
        command = [sys.executable, "-m", "edgepose", "run", "--config", str(folder / "config.yaml"), *arguments]
        process = subprocess.Popen(command, stderr=stream, env=environment)
    try:
        wait_for(lambda: "trying again" in log.read_text(), within_s=30)
        yield log
    finally:
        process.kill()
        process.wait(60)


def test_the_journal_gets_priorities_and_no_times(tmp_path: Path) -> None:
    with running(tmp_path, journal=True) as log:
        lines = log.read_text().splitlines()
    assert re.match(r"<6>model tiny\.onnx on onnxruntime-cpu", lines[0])
    assert any(line.startswith("<4>rtsp://127.0.0.1") or "(refused); trying again" in line for line in lines)
    assert all(re.match(r"<[2-7]>\S", line) for line in lines)


def test_a_stream_that_only_inherited_the_journals_variable_gets_text(tmp_path: Path) -> None:
    with running(tmp_path) as log:
        assert re.match(r"\d\d:\d\d:\d\d INFO    model tiny\.onnx", log.read_text())


def test_json_lines_contain_level_and_module(tmp_path: Path) -> None:
    with running(tmp_path, "log.format=json") as log:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(line.keys() >= {"time", "level", "message", "module", "thread"} for line in lines)
    failed = next(line for line in lines if "trying again" in line["message"])
    assert (failed["level"], failed["module"], failed["thread"]) == ("warning", "edgepose.pipeline.camera_thread", "camera-front")
    assert (failed["camera"], failed["state"], failed["cause"], failed["epoch"]) == ("front", "failed", "refused", 0)
    assert "s3cret" not in json.dumps(lines)


def test_a_camera_that_stays_away_is_logged_once(tmp_path: Path) -> None:
    with running(tmp_path, "log.level=info") as log:
        before = log.read_text().count("\n")
        time.sleep(3)  # at least six attempts
        assert log.read_text().count("\n") == before


def test_an_error_that_ends_the_program_is_an_error_in_the_journal(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("cameras: {}\nnonsense: 1\nmqtt: {port: no}\n")
    with (tmp_path / "log").open("wb") as stream:
        status = os.fstat(stream.fileno())
        command = [sys.executable, "-m", "edgepose", "run", "--config", str(tmp_path / "config.yaml")]
        environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert subprocess.run(command, stderr=stream, env=environment, timeout=120, check=False).returncode == 78
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("<3>") for line in lines)


def test_every_line_of_a_traceback_has_its_priority() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record(logging.ERROR, "it broke", exc_info=sys.exc_info())
    lines = PriorityFormatter(logging.Formatter()).format(made).splitlines()
    assert len(lines) > 4
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize(
    ("level", "priority"), [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)]
)
def test_levels_are_the_journals_priorities(level: int, priority: int) -> None:
    assert PriorityFormatter(logging.Formatter()).format(record(level, "<0>forged")) == f"<{priority}><0>forged"


def test_json_includes_extra_fields() -> None:
    fields = json.loads(JsonFormatter().format(record(logging.WARNING, "gone", camera="front", cause="refused", place=Path("/x"))))
    assert (fields["camera"], fields["cause"], fields["place"]) == ("front", "refused", "/x")
    assert "\n" not in JsonFormatter().format(record(logging.INFO, "two\nlines"))


def test_a_journal_is_recognized_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(stream, {})
