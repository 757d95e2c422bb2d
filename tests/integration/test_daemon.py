"""The daemon as a process, between a real RTSP server and a real broker."""

import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testing.servers.daemon import Daemon, Listener, configuration
from testing.servers.daemon import running as daemon_running
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for


@contextmanager
def running(folder: Path, broker: Mosquitto, source: str, **environment: str) -> Iterator[tuple[Daemon, Listener]]:
    """A daemon with one camera, `front`."""
    with daemon_running(folder, broker, configuration(folder, broker, {"front": source}), ("-m", "edgepose"), **environment) as both:
        yield both


def test_poses_return_in_a_new_epoch_after_the_camera_was_away(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    with running(tmp_path, broker, camera.url(credentials="pilot:s3cret@")) as (daemon, heard):
        status = "cameras/front/status"
        wait_for(lambda: len(heard.on("cameras/front/poses")) > 5, within_s=20)
        assert [message["state"] for message in heard.on(status)] == ["connecting", "streaming"]
        streaming = heard.on(status)[-1]
        assert (streaming["epoch"], streaming["width"], streaming["height"]) == (0, 320, 240)
        assert heard.on("status")[-1]["state"] == "online"
        info = heard.on("info")[-1]
        assert info["backend"]["name"] == "onnxruntime-cpu"
        assert info["model"]["name"] == "tiny.onnx"

        camera.kill()
        lost = wait_for(lambda: [message for message in heard.on(status) if message["state"] in ("failed", "stalled")], within_s=10)[-1]
        assert lost["cause"]
        assert lost["detail"]
        refused = wait_for(lambda: [message for message in heard.on(status) if message.get("cause") == "refused"], within_s=10)[-1]
        assert refused["state"] == "failed"
        seen = len(heard.on("cameras/front/poses"))

        camera.start()
        began_s = time.monotonic()
        returned = wait_for(lambda: [message for message in heard.on(status) if message["state"] == "streaming"][1:], within_s=10)[0]
        assert in_time(time.monotonic() - began_s, 5)
        assert returned["epoch"] == 1
        assert "cause" not in returned
        later = wait_for(lambda: heard.on("cameras/front/poses")[seen + 5 :], within_s=10)[-1]
        assert later["sequence"] < 1000
        assert later["width"] == 320

        def health_since() -> list[dict[str, Any]]:
            """Not those from before the camera went, nor from while it was away."""
            fronts = [(message, message["cameras"]["front"]) for message in heard.on("health")]
            return [message for message, front in fronts if front["state"] == "streaming" and front["frames"] > seen]

        health = wait_for(health_since, within_s=10)[-1]
        assert health["memory_mb"] < 250
        assert all("s3cret" not in json.dumps(message) for topic in ("info", status, "health") for message in heard.on(topic))
        assert "s3cret" not in daemon.log.read_text()


def test_a_camera_that_freezes_is_told_and_comes_back(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    with running(tmp_path, broker, camera.url()) as (_, heard):
        wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
        camera.freeze()
        stalled = wait_for(lambda: [message for message in heard.on("cameras/front/status") if message["state"] == "stalled"], within_s=10)
        assert stalled[0]["cause"] == "stalled"
        camera.thaw()
        wait_for(lambda: heard.on("cameras/front/status")[-1]["state"] == "streaming", within_s=15)
        assert heard.on("cameras/front/status")[-1]["epoch"] == 1


@pytest.mark.parametrize("source", ["camera", "nobody"])
def test_sigterm_says_stopped_within_three_seconds(tmp_path: Path, broker: Mosquitto, camera: RtspServer, source: str) -> None:
    url = camera.url() if source == "camera" else "rtsp://127.0.0.1:1/cam"
    with running(tmp_path, broker, url) as (daemon, heard):
        wait_for(lambda: heard.on("status") and heard.on("cameras/front/status")[-1:], within_s=20)
        if source == "camera":
            wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
        session = heard.on("status")[-1]["session"]
        began_s = time.monotonic()
        assert daemon.terminate(within_s=5) == 0
        assert in_time(time.monotonic() - began_s, 3)
        last = wait_for(lambda: [message for message in heard.on("status") if message["state"] != "online"])[-1]
        assert (last["state"], last["session"]) == ("stopped", session)
        assert "SIGTERM" in last["reason"]


def test_sigterm_ends_it_even_with_a_frozen_broker_and_camera(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    with running(tmp_path, broker, camera.url()) as (daemon, heard):
        wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
        camera.freeze()
        broker.freeze()
        began_s = time.monotonic()
        daemon.terminate(within_s=10)
        assert in_time(time.monotonic() - began_s, 4)  # three, and Python's own end on a busy machine
        broker.thaw()


def test_the_service_manager_hears_ready_watchdog_status_and_stopping(tmp_path: Path, broker: Mosquitto) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(120)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        with running(tmp_path, broker, "rtsp://127.0.0.1:1/cam", **variables) as (daemon, _):
            assert manager.recv(1000) == b"READY=1"
            heard = [manager.recv(1000) for _ in range(6)]
            assert heard.count(b"WATCHDOG=1") >= 2  # an idle camera is no reason to restart
            assert any(state.startswith(b"STATUS=0 of 1 cameras streaming") for state in heard)
            daemon.process.send_signal(signal.SIGTERM)
            wait_for(lambda: manager.recv(1000) == b"STOPPING=1")
            assert daemon.process.wait(60) == 0


def test_watch_shows_what_the_daemon_publishes(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    with running(tmp_path, broker, camera.url()) as (_, heard):
        wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
        watch = [
            sys.executable,
            "-m",
            "edgepose",
            "watch",
            "--set",
            "mqtt.host=127.0.0.1",
            "--set",
            f"mqtt.port={broker.port}",
            "--seconds",
            "2.5",
        ]
        lines = subprocess.run([*watch, "--json"], capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
        assert len(lines) > 5
        assert {json.loads(line)["camera"] for line in lines} == {"front"}
        pipe = f"{shlex.join([*watch, '--json'])} | head -n 1"
        piped = subprocess.run(pipe, shell=True, capture_output=True, text=True, timeout=120, check=True)
        assert piped.stdout.count("\n") == 1
        assert piped.stderr == ""  # a reader that has had enough is no error
        table = subprocess.run([*watch, "--device", "drone"], capture_output=True, text=True, timeout=120, check=True).stdout
        assert "drone/front: streaming, 0 people" in table
        other = subprocess.run([*watch, "--device", "other", "--seconds", "1"], capture_output=True, text=True, timeout=120, check=False)
        assert (other.returncode, other.stdout) == (69, "")
        assert "received nothing under" in other.stderr
