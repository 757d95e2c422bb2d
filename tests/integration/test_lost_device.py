"""The daemon on the stand-in of TensorRT, whose device fails while it runs: it is opened again, or the CPU takes over aloud."""

import json
import os
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from edgepose.config.schema import ModelConfig
from edgepose.engine.tensorrt.networks import TensorRtDevice
from edgepose.model.file import read_model
from testing.onnx_files import write_edgepose, write_refiner
from testing.servers.daemon import Listener, running
from testing.servers.mosquitto import Mosquitto, free_port
from testing.tensorrt_stand_in import World, install, write_packages
from testing.videos import write_video
from testing.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]


def last(listener: Listener, topic: str) -> Any:
    return (listener.on(topic) or [None])[-1]


def poses_follow(listener: Listener) -> None:
    before = len(listener.on("cameras/front/poses"))
    wait_for(lambda: len(listener.on("cameras/front/poses")) > before + 3, within_s=20)


def test_a_lost_device_is_opened_again_and_then_the_cpu_takes_over_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(World(), monkeypatch)
    files = (write_edgepose(tmp_path / "tiny.onnx"), write_refiner(tmp_path / "refiner.onnx"))
    device = TensorRtDevice(ModelConfig(backend="tensorrt", engines=str(tmp_path / "engines")))
    for file in files:
        device.build_into_cache(read_model(file), golden=False)
    packages, port = write_packages(tmp_path / "packages", gates=tmp_path), free_port()

    def order(**fail: int) -> None:
        (tmp_path / "orders.part").write_text(json.dumps(fail))
        (tmp_path / "orders.part").rename(tmp_path / "orders")

    with Mosquitto(tmp_path) as broker:
        config = (
            f"device: drone\ncameras: {{front: {{source: {write_video(tmp_path / 'video.mp4')}, loop: true, realtime: true}}}}\n"
            f"model: {{path: {files[0]}, backend: tensorrt, engines: {tmp_path / 'engines'}}}\nrefine: {{path: {files[1]}, people: 2}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}\nhealth: {{interval_s: 0.3}}\n"
            f"monitoring: {{enabled: true, port: {port}}}\n"
        )
        paths = os.pathsep.join((str(packages), str(ROOT)))
        with running(tmp_path, broker, config, PYTHONPATH=paths, PATH=os.environ["PATH"]) as (daemon, listener):

            def says(text: str) -> bool:
                return re.search(text, daemon.log.read_text()) is not None

            def degraded() -> float:
                metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
                found = re.search(r'^edgepose_degraded\{degradation="cpu_fallback"\} (\S+)$', metrics, re.MULTILINE)
                return float(found[1]) if found else -1.0

            poses_follow(listener)
            wait_for(lambda: last(listener, "health"), within_s=20)
            assert (last(listener, "info")["backend"]["name"], last(listener, "health")["degraded"], degraded()) == ("tensorrt", [], 0)

            order(cudaGraphLaunch=-1, cudaStreamBeginCapture=-1)  # what is open fails; what is opened again works, without graphs
            wait_for(lambda: says("the engine works again after 3 frames"), within_s=20)
            assert says(r"inference failed on frame .*CUDA failed in cudaGraphLaunch: cudaErrorIllegalAddress \(error 700\)")
            assert says("opening the engine again after 3 failures in a row")
            poses_follow(listener)
            assert (last(listener, "info")["backend"]["name"], last(listener, "health")["degraded"]) == ("tensorrt", [])

            order(cuda=-1)
            wait_for(lambda: says("the device is lost, the CPU takes over: CUDA failed in"), within_s=60)
            poses_follow(listener)
            wait_for(lambda: last(listener, "info")["refiner"]["backend"]["name"] == "onnxruntime-cpu", within_s=60)
            info, health = last(listener, "info"), wait_for(lambda: last(listener, "health"))
            assert info["backend"]["name"] == "onnxruntime-cpu"
            assert info["backend"]["reason"].startswith("the device was lost: CUDA failed in")
            wait_for(lambda: degraded() == 1, within_s=20)
            health = last(listener, "health")
            assert (health["backend"], health["degraded"], health["restarts"]) == ("onnxruntime-cpu", ["cpu_fallback"], {"inference": 2})
            assert health["backend_reason"].startswith("the device was lost: CUDA failed in")
            poses_follow(listener)
            wait_for(lambda: last(listener, "health")["refine"]["refined"] > health["refine"]["refined"], within_s=20)
            assert daemon.terminate(3) == 0
            assert not says("Traceback")
