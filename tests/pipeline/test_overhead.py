"""A guard on what a frame costs besides the networks: ratios and bytes, not times, so that it holds on any machine.

`edgepose bench` and `tools/compare_overhead.py` measure at length.
"""

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from msgspec.structs import replace

from edgepose.config.schema import Config
from edgepose.diagnostics.bench import pose_network_alone
from edgepose.frame import Frame
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from edgepose.model.shipped import named_model
from edgepose.person import Candidates
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import FrameResult, Preprocessor
from edgepose.telemetry.metrics import Metrics

_NS_PER_FRAME = 40_000_000

_MOST_BYTES = {
    "letterbox": 1_024,
    "decode": 4_096,
    "track": 4_096,
    "events": 3_072,
    "publish": 4_096,
}
"""Peak of memory above the start of each stage with two people. Exempt are what PyAV, ONNX Runtime and the encoder hand out: frame,
candidates, payload. What is left in `decode` and `track` is the people themselves, a dozen headers of arrays (0.1 KB each), and up to
1.4 KB that NumPy takes for itself to broadcast."""

_MOST_OPERATIONS = 4500
"""Core time of a frame with two people, without letterbox, in additions of small arrays: 2,300 to 3,000 were measured."""


class Encoder:
    payload_bytes = 0  # of the last frame

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        self.payload_bytes = len(encode(payload))

    def publish(self, address: str, payload: EventMessage, qos: Literal[0, 1]) -> None:
        encode(payload)


class Stages:
    """The stages of one camera that sees two people who walk, besides the network."""

    def __init__(self) -> None:
        config = pose_network_alone(Config())
        self.config = replace(config, model=replace(config.model, path="ghost-n"))
        self.metrics = Metrics()
        self.preprocessor = Preprocessor(named_model("ghost-n", "pose").info, 0, self.metrics.took)
        self.postprocessor = Postprocessor("a", self.config, self.metrics)
        self.encoder = Encoder()
        self.delivery = Delivery(self.encoder, [], self.metrics)
        self.image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
        self._standing = np.random.default_rng(1).uniform((0.3, 0.05, 0.5), (0.7, 0.95, 0.9), (2, 17, 3))

    def frames(self, count: int, around: Callable[[str, Callable[[], Any]], Any] = lambda stage, work: work()) -> None:
        """Process frames, each stage through `around`."""
        steps: list[tuple[str, Any]] = [
            (name, lambda *values, name=name, step=step: around(name, lambda: step(*values))) for name, step in self.postprocessor._steps
        ]
        self.postprocessor._steps, before = steps, self.postprocessor._steps
        for number, candidates in zip(range(count), self._candidates(), strict=False):
            frame = Frame(self.image, 1_700_000_000_000_000_000 + number * _NS_PER_FRAME, "stream", number, "a")
            prepared = around("letterbox", lambda frame=frame: self.preprocessor.prepare(frame))  # type: ignore[misc]
            people = self.postprocessor.people(prepared, candidates)
            result = FrameResult(frame, people, self.postprocessor.events, 0, False)
            around("publish", lambda result=result: self.delivery.deliver(result))  # type: ignore[misc]
            assert len(people) == 2
        self.postprocessor._steps = before

    def _candidates(self) -> Iterator[Candidates]:
        step = 0
        while True:
            step += 1
            boxes = np.array([[20 + step / 4, 30, 60 + step / 4, 150], [200 - step / 4, 20, 240 - step / 4, 160]], np.float32)
            keypoints = self._standing.astype(np.float32)
            keypoints[..., :2] = boxes[:, None, :2] + keypoints[..., :2] * (boxes[:, None, 2:] - boxes[:, None, :2])
            noise = np.full((3, 4), 5, np.float32)
            yield Candidates(
                np.concatenate((boxes, noise))[None],
                np.array([[0.9, 0.8, 0.02, 0.02, 0.02]], np.float32),
                np.concatenate((keypoints, np.zeros((3, 17, 3), np.float32)))[None],
            )


def test_no_stage_allocates_images_or_much_else() -> None:
    # In a process of its own: threads that other tests left behind allocate too.
    measured = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=300)
    assert measured.returncode == 0, measured.stderr
    peaks: dict[str, int] = json.loads(measured.stdout)
    assert set(peaks) == set(_MOST_BYTES)
    assert {stage: peak for stage, peak in peaks.items() if peak > _MOST_BYTES[stage]} == {}


def measure_peaks() -> dict[str, int]:
    """Return the highest peak of each stage in 100 warm frames, in bytes above the stage's start."""
    stages = Stages()
    peaks: dict[str, int] = {}

    def around(stage: str, work: Callable[[], Any]) -> Any:
        start = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = work()
        exempt = stages.encoder.payload_bytes if stage == "publish" else 0
        peaks[stage] = max(peaks.get(stage, 0), tracemalloc.get_traced_memory()[1] - start - exempt)
        return result

    stages.frames(60)
    tracemalloc.start()
    stages.frames(60, around)  # warm up what is traced
    peaks.clear()
    stages.frames(100, around)
    tracemalloc.stop()
    return peaks


def test_postprocessing_costs_no_more_operations_than_it_did() -> None:
    stages = Stages()
    one, other = np.ones((2, 17, 2), np.float32), np.ones((2, 17, 2), np.float32)
    spent_s = [0.0]

    def around(stage: str, work: Callable[[], Any]) -> Any:
        if stage == "letterbox":
            return work()
        began_s = time.thread_time()
        result = work()
        spent_s[0] += time.thread_time() - began_s
        return result

    def reference_s() -> float:
        began_s = time.thread_time()
        for _ in range(20_000):
            np.add(one, other)
        return (time.thread_time() - began_s) / 20_000

    stages.frames(30)
    frame_s, operation_s = [], []
    for _ in range(7):  # in turns; the least of each is free of other programs
        operation_s.append(reference_s())
        spent_s[0] = 0.0
        stages.frames(40, around)
        frame_s.append(spent_s[0] / 40)
    assert min(frame_s) / min(operation_s) < _MOST_OPERATIONS


_PARTS = """
paho yaml json http.client subprocess
edgepose.mqtt.session edgepose.mqtt.subscriber edgepose.flight.history edgepose.flight.ground_locator edgepose.flight.mavlink.connection
edgepose.webhook.sender edgepose.recorder.black_box edgepose.recorder.folder edgepose.bundles.store edgepose.bundles.manifest
edgepose.daemon.monitoring edgepose.daemon.prometheus edgepose.engine.tensorrt.build edgepose.engine.tensorrt.building
edgepose.capture.network.http_video edgepose.capture.network.rtsp_relay edgepose.output.coco
"""


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("edgepose.cli.main", "numpy cv2 av onnxruntime paho msgspec"),
        ("edgepose.daemon.daemon", "onnxruntime rich cryptography fastapi prometheus_client asyncio tensorrt cuda pycuda onnx scipy PIL"),
    ],
)
def test_starting_imports_nothing_that_it_does_not_need(modules: str, absent: str) -> None:
    program = f"import sys, {modules}\nprint(*(name for name in {absent.split()} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


def test_a_daemon_loads_only_the_parts_that_its_configuration_has(tmp_path: Path) -> None:
    """No broker, aircraft, webhook, black box, bundles, monitoring or GPU, nor a file of YAML."""
    video = tmp_path / "a.mp4"
    video.touch()
    program = f"""
import sys
from edgepose.config.load import load
from edgepose.daemon.daemon import Daemon
from edgepose.supervision.systemd import Notifier

settings = ("mqtt.enabled=false", "model.path=ghost-n", "refine.people=0", "cameras.a.source={video}", "files.jsonl={tmp_path}/a.jsonl")
Daemon(load(None, settings, {{}}), Notifier({{}}, 0))
print(*(name for name in {_PARTS.split()} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


if __name__ == "__main__":
    print(json.dumps(measure_peaks()))
