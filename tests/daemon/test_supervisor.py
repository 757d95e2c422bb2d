"""A whole daemon in this process: which networks it opens, and what it says of them."""

import os
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from msgspec import UNSET

from edgepose.config import Camera, Config, Files, Health, Model, Mqtt, Refine
from edgepose.daemon.supervisor import Daemon
from edgepose.daemon.systemd import Notifier
from edgepose.errors import ModelError
from edgepose.output.messages import HealthMessage, InfoMessage
from tests.onnx_files import write_edgepose, write_refiner
from tests.videos import write_video
from tests.waiting import wait_for


class Publisher:
    """Stands where the broker's publisher stands, and keeps what it is told."""

    session, connected, sent, drops, reconnects, events_waiting, rival, turns, alive = "s", True, 0, {}, 0, 0, None, 0, True
    info: InfoMessage
    health: HealthMessage

    def __init__(self, config: Mqtt, device: str, *_: Any, **__: Any) -> None:
        pass

    def start(self, info: InfoMessage) -> None:
        Publisher.info = info

    def publish(self, name: str, message: HealthMessage, qos: int) -> None:
        Publisher.health = message

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """File names of the networks that are opened."""
    opened: list[str] = []
    real = onnxruntime.InferenceSession

    def open_session(path: str, *arguments: Any, **named: Any) -> Any:
        opened.append(Path(path).name)
        return real(path, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr("edgepose.daemon.link.MqttPublisher", Publisher)
    return opened


def run(folder: Path, refine: Refine) -> int:
    """Runs a daemon on eight bright frames to their end; messages in its file."""
    poses = folder / "poses.jsonl"
    config = Config(
        cameras={"a": Camera(source=str(write_video(folder / "bright.mp4", pictures=8, index=12)))},
        model=Model(path=str(write_edgepose(folder / "tiny.onnx")), backend="cpu", threads=1),
        refine=refine,
        files=Files(jsonl=str(poses)),
        health=Health(interval_s=1e-3),
    )
    daemon = Daemon(config, Notifier({}, os.getpid()), forever=False)
    daemon.start()
    wait_for(daemon.finished)
    daemon.tick(1e9)
    daemon.stop("over", patient=True)
    return len(poses.read_text().splitlines())


def test_a_second_network_is_opened_and_told_of(tmp_path: Path, sessions: list[str]) -> None:
    path = write_refiner(tmp_path / "again.onnx")
    assert run(tmp_path, Refine(path=str(path), people=2, budget_ms=500)) == 8
    assert sessions == ["tiny.onnx", "again.onnx"]
    refiner = Publisher.info.refiner
    assert refiner is not UNSET
    assert (refiner.name, refiner.precision, refiner.input_size, refiner.people, refiner.budget_ms) == ("again.onnx", "int8", 64, 2, 500)
    assert len(refiner.sha256) == 64
    assert refiner.backend.name == "onnxruntime-cpu"
    refine = Publisher.health.refine
    assert refine is not UNSET
    assert refine.looked_at == refine.accepted + refine.disagreed == 16
    assert refine.skipped > 0
    assert "refine" in Publisher.health.stages_ms


def test_off_opens_one_network_only_and_says_nothing(tmp_path: Path, sessions: list[str]) -> None:
    assert run(tmp_path, Refine(path="no such file", people=0)) == 8
    assert sessions == ["tiny.onnx"]
    assert (Publisher.info.refiner, Publisher.health.refine) == (UNSET, UNSET)
    assert "refine" not in Publisher.health.stages_ms


def test_a_pose_network_is_refused_before_anything_is_opened(tmp_path: Path, sessions: list[str]) -> None:
    with pytest.raises(ModelError, match=r"default.onnx is a pose network .*, accepted here is a refiner"):
        run(tmp_path, Refine(path="default", people=1))
    assert sessions == []
