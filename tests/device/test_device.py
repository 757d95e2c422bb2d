"""What only a device can show; `tests/device/run.sh` runs it and prints a report. Without a GPU everything is skipped, with the reason."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.engine.device_memory import open_device_memory
from edgepose.engine.golden import check_pose_network, compare_candidates, golden_crops, golden_image
from edgepose.engine.networks import PoseNetwork
from edgepose.engine.tensorrt.build import BuildRequest, Profile, build_engine
from edgepose.engine.tensorrt.networks import TensorRtDevice
from edgepose.engine.tensorrt.runner import TensorRtRunner
from edgepose.errors import EdgeposeError, EngineError
from edgepose.model.file import ModelFile
from edgepose.model.shipped import named_model

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    settings = ModelConfig(backend="tensorrt", engines=str(tmp_path_factory.mktemp("device") / "engines"))
    try:
        TensorRtDevice(settings)
    except EdgeposeError as error:
        pytest.skip(f"TensorRT does not work here: {error}")
    return settings


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return named_model("default", "pose", backend="tensorrt")


@pytest.fixture(scope="module")
def network(settings: ModelConfig, model: ModelFile) -> PoseNetwork:
    network = open_backend(model, settings)
    assert isinstance(network, PoseNetwork)
    return network


def test_tensorrt_finds_what_onnx_runtime_finds(network: PoseNetwork, model: ModelFile) -> None:
    image = golden_image(model.info, 0)
    cpu = open_backend(model, ModelConfig(backend="cpu"))
    found, expected = network.run(image), cpu.run(image)
    print("MEASURED", check_pose_network(network, cpu, 0).words)  # type: ignore[arg-type]
    people = expected.scores[0] > 0.5
    limit_px, limit_score = (4.0, 0.05) if model.info.precision == "int8" else (1.0, 0.02)
    order = [int(np.abs(found.boxes[0] - box).sum(axis=1).argmin()) for box in expected.boxes[0][people]]
    assert np.abs(found.boxes[0][order] - expected.boxes[0][people]).max() <= limit_px
    assert np.abs(found.scores[0][order] - expected.scores[0][people]).max() <= limit_score


def test_cuda_finds_what_the_cpu_finds(model: ModelFile) -> None:
    try:
        cuda = open_backend(model, ModelConfig(backend="cuda"))
    except EdgeposeError as error:
        pytest.skip(f"ONNX Runtime has no CUDA here: {error}")
    image = golden_image(model.info, 0)
    compare_candidates(cuda.run(image), open_backend(model, ModelConfig(backend="cpu")).run(image), "cuda")


def test_the_refiner_finds_what_onnx_runtime_finds(settings: ModelConfig) -> None:
    model = named_model("refine-n", "refine", backend="tensorrt")
    found, expected = (open_refiner_backend(model, each).run(golden_crops(model.info)) for each in (settings, ModelConfig(backend="cpu")))
    assert np.median(np.abs(found - expected)[..., :2]) <= 1.0


@pytest.mark.parametrize("batch", [1, 8])
def test_latency(network: PoseNetwork, model: ModelFile, batch: int) -> None:
    images = np.repeat(golden_image(model.info, 0), batch, axis=0)
    for _ in range(20):
        network.run(images)
    times_ms = []
    for _ in range(300):
        start_s = time.perf_counter()
        network.run(images)
        times_ms.append((time.perf_counter() - start_s) * 1e3)
    print(f"MEASURED batch {batch}: p50 {np.percentile(times_ms, 50):.2f} ms, p99 {np.percentile(times_ms, 99):.2f} ms")


def test_a_thousand_runs_do_not_grow(network: PoseNetwork, model: ModelFile) -> None:
    memory = open_device_memory()
    image = golden_image(model.info, 0)
    for _ in range(50):
        network.run(image)
    with memory.current():
        before = memory.free_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        network.run(image)
    with memory.current():
        assert before[0] - memory.free_bytes() < 4 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 8 << 10  # KiB


def test_a_damaged_engine_is_refused_by_the_library_too(settings: ModelConfig, model: ModelFile, network: PoseNetwork) -> None:
    device = TensorRtDevice(settings)
    plan = device.cache.load(device.key(model))
    assert plan is not None
    for damaged in (plan[: len(plan) // 2], b"\0" * 64 + plan[64:], b""):
        with pytest.raises(EngineError, match="does not load the engine"):
            TensorRtRunner(device.library, device.memory, damaged)


def test_a_damaged_file_is_built_again(settings: ModelConfig, model: ModelFile, network: PoseNetwork) -> None:
    device = TensorRtDevice(settings)
    path = device.cache.folder / f"{device.key(model).stem}.engine"
    path.write_bytes(path.read_bytes()[:-1])
    assert not device.is_built(model)
    assert device.build_into_cache(model)


def test_too_little_workspace_at_the_build_is_no_crash(settings: ModelConfig, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    device = TensorRtDevice(settings)
    monkeypatch.setattr("edgepose.engine.tensorrt.build._LEAST_WORKSPACE", 1 << 10)
    try:
        plan = build_engine(device.library, BuildRequest(model, Profile.of(model, 0), free_bytes=4 << 10)).plan
    except EngineError as error:
        plan = str(error).encode()
    assert plan  # either a smaller engine or a sentence


def test_two_processes_build_once(settings: ModelConfig, model: ModelFile, tmp_path: Path) -> None:
    fresh = msgspec.structs.replace(settings, engines=str(tmp_path / "engines"))
    command = [sys.executable, "-m", "edgepose", "build-engine", "--json", "--set", f"model.engines={fresh.engines}"]
    command += ["--set", "model.backend=tensorrt", "--set", "refine.people=0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=1800)[0] for process in both]
    assert sorted('"built": true' in answer for answer in answers) == [False, True]
