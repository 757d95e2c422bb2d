"""`edgepose run` as a process, with a CSI camera: however it ends, the camera is given back. An unclean stop wedges Argus for good."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testing.gstreamer import needs_gstreamer
from testing.onnx_files import write_edgepose
from testing.waiting import in_time, wait_for

pytestmark = needs_gstreamer

CSI = "csi://0?width=320&height=240&rate=15"


class Daemon:
    """`edgepose run` on a machine with stand-ins for NVIDIA's elements."""

    def __init__(self, folder: Path, *, source: str = CSI, **argus: str) -> None:
        self.poses = folder / "poses.jsonl"
        self.argus = folder / "argus"
        self.log = folder / "edgepose.log"
        settings = {
            "cameras.front.source": source,
            "cameras.front.open_timeout_s": "20",
            "model.path": str(write_edgepose(folder / "tiny.onnx")),
            "mqtt.enabled": "false",
            "files.jsonl": str(self.poses),
        }
        command = [sys.executable, "-m", "testing.jetson", "run"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        environment = os.environ | {"ARGUS_LOG": str(self.argus)} | {f"ARGUS_{key.upper()}": value for key, value in argus.items()}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment, cwd=Path(__file__).parents[2])

    def happened(self) -> list[str]:
        return self.argus.read_text().split() if self.argus.exists() else []

    def published(self) -> int:
        return len(self.poses.read_text().splitlines()) if self.poses.exists() else 0

    def ends(self) -> tuple[int, float]:
        """Its exit code, and how long that took."""
        began = time.monotonic()
        return self.process.wait(60), time.monotonic() - began


@contextmanager
def daemon(folder: Path, **settings: str) -> Iterator[Daemon]:
    running = Daemon(folder, **settings)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_the_camera_back(tmp_path: Path, number: signal.Signals) -> None:
    with daemon(tmp_path) as running:
        wait_for(lambda: running.published() >= 5, within_s=40)
        assert running.happened() == ["opening", "opened"]
        running.process.send_signal(number)
        code, took_s = running.ends()
        assert code == 0, running.log.read_text()
        assert in_time(took_s, 3.5)
        assert running.happened() == ["opening", "opened", "closed"]
    messages = [json.loads(line) for line in running.poses.read_text().splitlines()]
    assert {message["clock"] for message in messages} == {"stream"}
    assert {(message["width"], message["height"]) for message in messages} == {(320, 240)}
    ages_ms = [message["age_ms"] for message in messages]
    assert min(ages_ms) >= 0
    assert in_time(max(ages_ms) / 1000, 1)


def test_a_signal_while_the_camera_is_being_opened_gives_it_back(tmp_path: Path) -> None:
    with daemon(tmp_path, open_s="1.5") as running:
        wait_for(lambda: running.happened() == ["opening"], within_s=40)
        running.process.send_signal(signal.SIGTERM)
        code, took_s = running.ends()
        assert code == 0, running.log.read_text()
        assert in_time(took_s, 6)
        assert running.happened() == ["opening", "opened", "closed"]


def test_a_camera_that_does_not_let_go_holds_nobody_up(tmp_path: Path) -> None:
    with daemon(tmp_path, close_s="60") as running:
        wait_for(lambda: running.published() >= 1, within_s=40)
        running.process.send_signal(signal.SIGTERM)
        code, took_s = running.ends()
        assert code == 0, running.log.read_text()
        assert in_time(took_s, 8)
        assert "does not stop within 1 s" in running.log.read_text()


def test_an_error_of_the_program_gives_the_camera_back_too(tmp_path: Path) -> None:
    # A pipeline that a test leaves running on purpose: only the end of the interpreter is left to stop it.
    program = (
        "from testing import jetson; from edgepose.capture.source import open_source; from edgepose.config.schema import CameraConfig\n"
        "with jetson.elements(jetson.CAMERA, jetson.CONVERTER):\n"
        f"    source = open_source('front', CameraConfig(source='{CSI}')); source.read()\n"
        "    raise SystemExit(3)"
    )
    argus = tmp_path / "argus"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"ARGUS_LOG": str(argus)}, timeout=120, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 3
    assert argus.read_text().split() == ["opening", "opened", "closed"]
