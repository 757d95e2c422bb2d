"""A whole daemon in this process: which networks it opens, and what it says of them."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from msgspec import UNSET

from edgepose.config.schema import CameraConfig, Config, FilesConfig, HealthConfig, ModelConfig, RefineConfig
from edgepose.daemon.daemon import Daemon
from edgepose.errors import ModelError
from edgepose.messages.structs import HealthMessage, InfoMessage
from edgepose.mqtt.settings import PublisherSettings
from edgepose.mqtt.stats import PublisherStats
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.systemd import Notifier
from testing.onnx_files import write_edgepose, write_refiner
from testing.videos import write_video
from testing.waiting import wait_for


class Publisher:
    """Stands where the publisher stands, and keeps what it is told."""

    info: InfoMessage
    health: HealthMessage

    def __init__(self, settings: PublisherSettings, *_: Any) -> None:
        self.heartbeat = Heartbeat(60.0)

    def start(self, info: InfoMessage, within_s: float) -> None:
        Publisher.info = info

    def stats(self) -> PublisherStats:
        return PublisherStats(enabled=True, state="connected", session="s")

    def publish(self, name: str, message: HealthMessage, qos: int = 0) -> None:
        Publisher.health = message

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the input tensors of the networks that are opened: `images` of a pose network, `crops` of a refiner."""
    opened: list[str] = []
    real = onnxruntime.InferenceSession

    def open_session(data: bytes, *arguments: Any, **named: Any) -> Any:
        session = real(data, *arguments, **named)
        opened.append(session.get_inputs()[0].name)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr("edgepose.daemon.daemon.MqttPublisher", Publisher)
    return opened


def run(folder: Path, refine: RefineConfig) -> int:
    """Runs a daemon on eight bright frames to their end; messages in its file."""
    poses = folder / "poses.jsonl"
    config = Config(
        cameras={"a": CameraConfig(source=str(write_video(folder / "bright.mp4", pictures=8, index=12)))},
        model=ModelConfig(path=str(write_edgepose(folder / "tiny.onnx")), backend="cpu", threads=1),
        refine=refine,
        files=FilesConfig(jsonl=str(poses)),
        health=HealthConfig(interval_s=1e-3),
    )
    daemon = Daemon(config, Notifier({}, os.getpid()), forever=False)
    daemon.start()
    wait_for(daemon.finished)
    daemon.tick(1e9)
    daemon.stop("over", patient=True)
    return len(poses.read_text().splitlines())


def test_a_second_network_is_opened_and_told_of(tmp_path: Path, sessions: list[str]) -> None:
    path = write_refiner(tmp_path / "again.onnx")
    assert run(tmp_path, RefineConfig(path=str(path), people=2, budget_ms=500)) == 8
    assert sessions == ["images", "crops"]
    refiner = Publisher.info.refiner
    assert refiner is not UNSET
    assert (refiner.name, refiner.precision, refiner.input_size, refiner.people, refiner.budget_ms) == ("again.onnx", "int8", 64, 2, 500)
    assert len(refiner.sha256) == 64
    assert refiner.backend.name == "onnxruntime-cpu"
    refine = Publisher.health.refine
    assert refine is not UNSET
    assert refine.refined == refine.accepted + refine.disagreed == 16
    assert refine.skipped > 0
    assert "refine" in Publisher.health.stages_ms


def test_off_opens_one_network_only_and_says_nothing(tmp_path: Path, sessions: list[str]) -> None:
    assert run(tmp_path, RefineConfig(path="no such file", people=0)) == 8
    assert sessions == ["images"]
    assert (Publisher.info.refiner, Publisher.health.refine) == (UNSET, UNSET)
    assert "refine" not in Publisher.health.stages_ms


def test_a_pose_network_is_refused_before_anything_is_opened(tmp_path: Path, sessions: list[str]) -> None:
    with pytest.raises(ModelError, match=r"ghost-n.onnx is a pose network .*; expected a refiner"):
        run(tmp_path, RefineConfig(path="default", people=1))
    assert sessions == []


def test_a_start_that_fails_unexpectedly_keeps_no_lock(tmp_path: Path, sessions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("edgepose.daemon.daemon.Pipeline.open", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, RefineConfig(people=0))
    run(tmp_path, RefineConfig(people=0))


def _fed(manager: socket.socket) -> int:
    """Times that the watchdog was fed since the last call."""
    fed = 0
    while True:
        try:
            fed += manager.recv(4096) == b"WATCHDOG=1"
        except BlockingIOError:
            return fed


def test_a_part_of_a_turn_that_fails_ends_nothing_and_is_told_once(
    tmp_path: Path, sessions: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(
        cameras={"a": CameraConfig(source=str(write_video(tmp_path / "bright.mp4", pictures=8, index=12)), loop=True)},
        model=ModelConfig(path=str(write_edgepose(tmp_path / "tiny.onnx")), backend="cpu", threads=1),
        health=HealthConfig(interval_s=1e-3),
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        daemon = Daemon(config, Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}, os.getpid()))
        daemon.start()

        def turn() -> int:
            daemon.tick(time.monotonic())
            return _fed(manager)

        try:
            with monkeypatch.context() as broken:
                broken.setattr("edgepose.daemon.daemon.health_message", lambda *_: 1 / 0)
                wait_for(lambda: sum(turn() for _ in range(10)) > 0)  # the work goes on, and so does the feeding
                wait_for(lambda: sum(turn() for _ in range(10)) > 0)
                assert caplog.text.count("reporting health: unexpected ZeroDivisionError: division by zero; trying again") == 1
            wait_for(lambda: turn() >= 0 and "reporting health: works again" in caplog.text)
            assert Publisher.health.restarts == {"main": 1}
            with monkeypatch.context() as broken:
                broken.setattr(daemon._pipeline, "heartbeats", lambda: 1 / 0)
                turn()
                fed, until_s = 0, time.monotonic() + 0.5
                while time.monotonic() < until_s:
                    fed += turn()
                assert fed == 0  # without heartbeats the daemon must not report to systemd that it works
            wait_for(lambda: turn() > 0)
            wait_for(lambda: turn() >= 0 and Publisher.health.restarts == {"main": 2})
        finally:
            daemon.stop("over", patient=False)
