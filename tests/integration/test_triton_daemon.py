"""The daemon with its network on a server: health names the state of the server, and a wrong network ends the daemon."""

from pathlib import Path
from typing import Any

import pytest

from testing.onnx_files import write_edgepose
from testing.requirements import missing
from testing.servers.daemon import Daemon, Listener, running
from testing.servers.mosquitto import Mosquitto
from testing.videos import write_video
from testing.waiting import wait_for

if (reason := missing("tritonclient", "mosquitto")) is not None:
    pytest.skip(reason, allow_module_level=True)

from testing.servers.kserve import KServeServer


def configuration(folder: Path, broker: Mosquitto, server: KServeServer, header: Path | None) -> str:
    described = f", header: {header}" if header is not None else ""
    return (
        f"device: drone\ncameras: {{front: {{source: {write_video(folder / 'video.mp4')}, loop: true, realtime: true}}}}\n"
        f"model: {{path: '{server.url}', backend: triton, remote: {{timeout_s: 1{described}}}}}\nrefine: {{people: 0}}\n"
        f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nhealth: {{interval_s: 0.5}}\n"
    )


def last(listener: Listener, topic: str) -> Any:
    return (listener.on(topic) or [None])[-1]


def poses_follow(listener: Listener) -> None:
    before = len(listener.on("cameras/front/poses"))
    wait_for(lambda: len(listener.on("cameras/front/poses")) > before + 1, within_s=20)


def degraded(listener: Listener) -> list[str]:
    return list((last(listener, "health") or {}).get("degraded", []))


def test_the_server_goes_is_slow_and_comes_back(tmp_path: Path) -> None:
    file = write_edgepose(tmp_path / "tiny.onnx")
    server = KServeServer(file)
    with Mosquitto(tmp_path) as broker, running(tmp_path, broker, configuration(tmp_path, broker, server, file)) as (daemon, listener):
        wait_for(lambda: "server_unreachable" in degraded(listener), within_s=20)
        assert last(listener, "health")["cameras"]["front"]["diagnosis"] in ("warming_up", "not_processed")
        with server:
            poses_follow(listener)
            wait_for(lambda: degraded(listener) == [], within_s=20)
            server.delay_s = 3
            wait_for(lambda: "server_slow" in degraded(listener), within_s=20)
            server.delay_s = 0
            poses_follow(listener)
            info = last(listener, "info")
            assert (info["backend"]["name"], info["model"]["name"]) == ("triton", "pose")
            assert "images_sent_to" not in info["backend"]  # it is on this machine
        wait_for(lambda: "server_unreachable" in degraded(listener), within_s=20)
        with server:
            poses_follow(listener)
        assert daemon.terminate(3) == 0


def test_another_network_ends_the_daemon(tmp_path: Path) -> None:
    server = KServeServer(write_edgepose(tmp_path / "tiny.onnx"))
    with Mosquitto(tmp_path) as broker:
        config = configuration(tmp_path, broker, server, None)
        away = Daemon(tmp_path, config, {})
        assert away.process.wait(60) == 69
        assert "with model.remote.header the daemon starts without the server" in away.log.read_text()
        with server, running(tmp_path, broker, config) as (daemon, listener):
            poses_follow(listener)
            server.stop()
            server.serve(write_edgepose(tmp_path / "fixed.onnx", input_shape=("N", 64, 96, 3)))
            server.start()
            assert daemon.process.wait(120) == 78
            assert "is another network now" in daemon.log.read_text()
