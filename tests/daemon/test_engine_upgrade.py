"""The daemon, real, with the stand-in as its TensorRT: it begins on ONNX Runtime and changes when the engine is built."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testing.tensorrt_stand_in import write_packages
from testing.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "edgepose" / "assets" / "demo.mp4"


class Running:
    def __init__(self, folder: Path, backend: str, **broken: object) -> None:
        packages = write_packages(folder / "packages", **broken)  # type: ignore[arg-type]
        self.log = folder / "log"
        self.poses = folder / "poses.jsonl"
        command = [sys.executable, "-m", "edgepose", "run"]
        for setting in (
            *(f"cameras.front.source={CLIP}", "cameras.front.loop=true", "mqtt.enabled=false", f"files.jsonl={self.poses}"),
            *("refine.people=0", f"model.backend={backend}", f"model.engines={folder / 'engines'}", "model.threads=1"),
        ):
            command += ["--set", setting]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(packages), str(ROOT)))}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def count(self) -> int:
        return len(self.poses.read_text().splitlines()) if self.poses.exists() else 0

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def test_it_runs_meanwhile_and_changes_between_two_frames(tmp_path: Path) -> None:
    running = Running(tmp_path, "tensorrt", step_s=1.0)
    try:
        wait_for(lambda: running.count() > 3, within_s=60)
        assert running.says("on onnxruntime-cpu")
        assert running.says("the engine of ghost-n.onnx is not built yet for tensorrt")
        wait_for(lambda: running.says("model ghost-n.onnx on tensorrt (Stand-in, cuda:0"), within_s=120)
        before = running.count()
        wait_for(lambda: running.count() > before + 10, within_s=60)
    finally:
        code = running.stop()
    assert code == 0
    frames = [json.loads(line)["sequence"] for line in running.poses.read_text().splitlines()]
    assert frames == sorted(set(frames))  # none twice, none out of order, across the change
    assert not running.says("Traceback")


@pytest.mark.parametrize(("backend", "ends"), [("tensorrt", True), ("auto", False)])
def test_a_build_that_fails_ends_what_was_named_and_is_told_where_it_was_not(tmp_path: Path, backend: str, ends: bool) -> None:
    running = Running(tmp_path, backend, fail="parse")
    try:
        wait_for(lambda: running.says("does not take"), within_s=120)
        if ends:
            assert running.process.wait(120) == 78
            return
        wait_for(lambda: running.says("tensorrt is not used: "), within_s=60)
        before = running.count()
        wait_for(lambda: running.count() > before + 3, within_s=60)
    finally:
        code = running.stop() if running.process.poll() is None else running.process.returncode
    assert code == 0
