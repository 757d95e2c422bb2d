"""Engines on the stand-in, which computes with ONNX Runtime: what comes out is what the network says, and every failure has a sentence."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, open_refiner_backend, reopen
from edgepose.engine.networks import LoadedNetwork
from edgepose.engine.tensorrt.build import MAXIMUM_BATCH, BuildProgress, BuildRequest, Profile, build_engine
from edgepose.engine.tensorrt.library import load_library
from edgepose.engine.tensorrt.networks import TensorRtBackend, TensorRtDevice, open_tensorrt
from edgepose.engine.tensorrt.runner import TensorRtRunner
from edgepose.engine.ultralytics import to_input
from edgepose.errors import ConfigError, EdgeposeError, EngineError, ModelError
from edgepose.model.file import ModelFile, read_model
from testing.onnx_files import anchors, answers, refined, write_edgepose, write_refiner, write_ultralytics
from testing.tensorrt_stand_in import World, install

WHITE = np.full((1, 64, 96, 3), 255, np.uint8)


@pytest.fixture
def backend(device: TensorRtDevice, model: ModelFile, settings: ModelConfig) -> TensorRtBackend:
    device.build_into_cache(model, golden=False)
    network = open_tensorrt(model, settings, "a test")
    assert isinstance(network, TensorRtBackend)
    return network


def test_candidates_are_the_outputs_of_the_network(backend: TensorRtBackend, world: World) -> None:
    boxes, scores, keypoints = answers()
    for factor in (255, 127, 255):
        candidates = backend.run(np.full((1, 64, 96, 3), factor, np.uint8))
        np.testing.assert_allclose(candidates.boxes[0], boxes)
        np.testing.assert_allclose(candidates.scores[0], scores * factor / 255, rtol=1e-5)
        np.testing.assert_allclose(candidates.keypoints[0], keypoints)
    assert world.captures == 2  # one graph for each shape: that of the warm-up, and this one
    assert world.launches >= 4
    assert (backend.name, backend.device, backend.reason) == ("tensorrt", "Stand-in, cuda:0", "a test")


def test_results_are_copies_that_the_next_run_does_not_change(backend: TensorRtBackend) -> None:
    first = backend.run(WHITE).scores.copy()
    kept = backend.run(WHITE)
    backend.run(WHITE // 2)
    np.testing.assert_array_equal(kept.scores, first)


def test_more_images_than_the_profile_takes_run_in_several_calls(backend: TensorRtBackend) -> None:
    images = np.concatenate([WHITE // (index + 1) for index in range(MAXIMUM_BATCH + 3)])
    found = backend.run(images).scores
    assert len(found) == MAXIMUM_BATCH + 3
    np.testing.assert_allclose(found[9], backend.run(images[9:10]).scores[0], rtol=1e-5)


def test_a_thousand_runs_in_many_shapes_keep_no_memory(backend: TensorRtBackend, world: World) -> None:
    shapes = [(1 + index % 3, 32 * (1 + index % 4), 32 * (1 + index % 5)) for index in range(60)]
    for shape in shapes:
        backend.run(np.zeros((*shape, 3), np.uint8))
    before = len(world.allocated), len(world.pinned), len(world.graphs)
    for index in range(940):
        backend.run(np.zeros((*shapes[index % 60], 3), np.uint8)) if index % 10 == 0 else backend.run(WHITE)
    assert abs(len(world.allocated) - before[0]) <= 4
    assert len(world.graphs) <= 8
    backend.close()
    backend.close()
    assert (world.allocated, world.pinned, world.graphs, world.streams) == ({}, {}, set(), set())
    with pytest.raises(EngineError, match="closed"):
        backend.run(WHITE)


def test_pycuda_gives_the_same_and_uses_no_graphs(model: ModelFile, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    install(world, monkeypatch, memory="pycuda")
    device = TensorRtDevice(settings)
    assert device.memory.library.startswith("pycuda")
    device.build_into_cache(model, golden=False)
    network = open_tensorrt(model, settings, "a test")
    assert isinstance(network, TensorRtBackend)
    np.testing.assert_allclose(network.run(WHITE).scores[0], answers()[1], rtol=1e-5)
    assert (world.captures, world.launches) == (0, 0)
    network.close()
    assert (world.allocated, world.streams) == ({}, set())


def test_a_capture_that_fails_leaves_an_engine_that_runs(device: TensorRtDevice, model: ModelFile, world: World) -> None:
    device.build_into_cache(model, golden=False)
    world.fail["cudaStreamBeginCapture"] = -1
    network = device.open_cached(model, "")
    assert isinstance(network, TensorRtBackend)
    for _ in range(3):
        np.testing.assert_allclose(network.run(WHITE).scores[0], answers()[1], rtol=1e-5)
    assert world.launches == 0
    assert network._runner.graphs is False


def test_a_refiner_runs_crops(device: TensorRtDevice, settings: ModelConfig, tmp_path: Path) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx"))
    device.build_into_cache(model, golden=False)
    network = open_refiner_backend(model, settings)
    found = network.run(np.full((3, 64, 64, 3), 255, np.uint8))
    np.testing.assert_allclose(found, np.stack([refined()] * 3), rtol=1e-4)


def test_an_ultralytics_file_gets_its_float_planes(device: TensorRtDevice, tmp_path: Path) -> None:
    model = read_model(write_ultralytics(tmp_path / "yolo.onnx"))
    device.build_into_cache(model, golden=False)
    network = device.open_cached(model, "")
    assert isinstance(network, TensorRtBackend)
    assert network._input_type is np.float32
    (found,) = network._compute(["output0"], to_input(WHITE))
    np.testing.assert_allclose(found[0], anchors(), rtol=1e-5)


def test_wrong_images_are_refused_as_everywhere(backend: TensorRtBackend) -> None:
    with pytest.raises(EngineError, match=r"uint8 \(1, 64, 100, 3\); expected"):
        backend.run(np.zeros((1, 64, 100, 3), np.uint8))
    with pytest.raises(EngineError, match=r"refuses an input of .*Static dimension mismatch"):
        backend.run(np.zeros((1, 64, 4096, 3), np.uint8))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("Runtime", "tensorrt 10.3.0 makes no Runtime: CUDA initialization failure with error: 35"),
        ("deserialize", "tensorrt 10.3.0 does not load the engine: CUDA initialization failure"),
        ("context", "gives the engine no context, mostly for lack of memory: .*OutOfMemory"),
        ("execute", "does not run the engine: .*illegal memory access"),
        ("address", "refuses the buffer of"),
        ("open_shape", "depends on the image; expected a fixed number"),
        ("cudaMalloc", r"CUDA failed in cudaMalloc: cudaErrorMemoryAllocation \(error 2\)"),
        ("cudaHostAlloc", "CUDA failed in cudaHostAlloc"),
        ("cudaStreamSynchronize", "cudaErrorIllegalAddress"),
        ("cudaStreamCreateWithFlags", "CUDA failed in cudaStreamCreateWithFlags"),
    ],
)
def test_each_failure_is_a_sentence_and_leaves_no_memory(
    device: TensorRtDevice, model: ModelFile, world: World, what: str, message: str
) -> None:
    device.build_into_cache(model, golden=False)
    plan = device.cache.load(device.key(model))
    assert plan is not None
    world.fail[what] = -1
    with pytest.raises(EngineError, match=message):
        device.open(model, plan, "").run(WHITE)
    assert world.allocated == {}
    assert world.pinned == {}


def test_a_lost_device_fails_each_frame_and_closes_quietly(backend: TensorRtBackend, world: World) -> None:
    backend.run(WHITE)
    for function in ("cudaGraphLaunch", "cudaStreamSynchronize", "cudaFree", "cudaStreamDestroy", "cudaGraphExecDestroy"):
        world.fail[function] = -1
    for _ in range(3):
        with pytest.raises(EngineError, match=r"CUDA failed in cudaGraphLaunch: cudaErrorIllegalAddress \(error 700\)"):
            backend.run(WHITE)
    backend.close()


@pytest.mark.parametrize("what", ["Runtime", "context", "cudaGetDeviceCount", "cudaSetDevice", "execute"])
def test_what_cannot_be_opened_again_runs_on_the_cpu_and_says_why(
    backend: TensorRtBackend, model: ModelFile, settings: ModelConfig, world: World, what: str
) -> None:
    backend.close()
    world.fail[what] = -1
    network = reopen(lambda changed: open_backend(model, changed, build=False), settings)
    assert isinstance(network, LoadedNetwork)
    assert (network.name, network.fallback) == ("onnxruntime-cpu", True)
    assert network.reason.startswith("the device was lost: ")
    np.testing.assert_allclose(network.run(WHITE).scores[0], answers()[1], rtol=1e-5)
    assert world.builds == 1


def test_a_device_that_cannot_be_taken_closes_quietly(backend: TensorRtBackend, world: World) -> None:
    world.fail["cudaSetDevice"] = -1
    with pytest.raises(EngineError, match="another program uses the device alone"):
        backend.run(WHITE)
    backend.close()


def test_an_engine_of_another_version_is_built_again(device: TensorRtDevice, model: ModelFile, settings: ModelConfig, world: World) -> None:
    """The library's own check, besides the key: None from deserialization."""
    device.build_into_cache(model, golden=False)
    world.version = "10.3.1"
    built: list[ModelFile] = []

    def build(missing: ModelFile) -> None:
        built.append(missing)
        device.build_into_cache(missing, golden=False)

    network = open_tensorrt(model, settings, "a test", build)
    assert built == [model]
    assert isinstance(network, TensorRtBackend)
    network.close()


def test_a_full_device_does_not_cost_the_engine(device: TensorRtDevice, model: ModelFile, world: World) -> None:
    device.build_into_cache(model, golden=False)
    world.fail["context"], world.free_bytes = -1, 1000
    with pytest.raises(EngineError, match="no context"):
        device.open_cached(model, "")
    world.fail.clear()
    assert device.is_built(model)


def test_without_an_engine_and_a_builder_it_says_what_to_run(model: ModelFile, settings: ModelConfig, world: World) -> None:
    with pytest.raises(EngineError, match=r"there is no engine of tiny.onnx in .*; expected edgepose build-engine to have run"):
        open_tensorrt(model, settings, "")


def test_an_engine_that_loads_but_does_not_run_is_closed(
    device: TensorRtDevice, model: ModelFile, settings: ModelConfig, world: World
) -> None:
    device.build_into_cache(model, golden=False)
    world.fail["execute"] = -1
    with pytest.raises(EngineError, match="does not run"):
        open_tensorrt(model, settings, "")
    assert (world.allocated, world.streams) == ({}, set())


def test_an_output_that_is_missing_is_named(device: TensorRtDevice, model: ModelFile, tmp_path: Path) -> None:
    device.build_into_cache(model, golden=False)
    plan = device.cache.load(device.key(model))
    assert plan is not None
    other = read_model(write_ultralytics(tmp_path / "yolo.onnx", input_shape=(1, 3, 64, 96)))
    with pytest.raises(EngineError, match="has no output output0"):
        device.open(other, plan, "").run(WHITE)


# --- building


def test_memory_that_is_short_at_the_build_is_tried_with_less(device: TensorRtDevice, model: ModelFile, world: World) -> None:
    world.fail["build"] = 2
    device.build_into_cache(model, golden=False)
    assert world.builds == 3
    assert world.workspaces == [512 << 20, 128 << 20, 32 << 20]


@pytest.mark.parametrize(
    ("what", "error", "kind", "message"),
    [
        ("Builder", "", EngineError, "tensorrt 10.3.0 makes no Builder: CUDA initialization failure with error: 35"),
        ("build", "", EngineError, "built no engine of tiny.onnx: memory is short .*OutOfMemory"),
        ("build", "Error Code 9: Skipping tactic 0x0", EngineError, r"built no engine of tiny.onnx: the build failed \(Error Code 9"),
        (
            "parse",
            "",
            ModelError,
            r"tensorrt 10.3.0 does not take .*: Non-zero zero point is not supported at q1 \(QuantizeLinear\)",
        ),
        ("profile", "", ModelError, "refuses inputs of 1x32x32,"),
    ],
)
def test_a_build_that_fails_says_why_and_leaves_nothing(
    device: TensorRtDevice, model: ModelFile, world: World, what: str, error: str, kind: type[EdgeposeError], message: str
) -> None:
    world.fail[what] = -1
    if error:
        world.errors[what] = error
    with pytest.raises(kind, match=message):
        device.build_into_cache(model, golden=False)
    assert not device.is_built(model)


def test_percent_never_falls_and_ends_at_the_end(device: TensorRtDevice, model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepose.engine.tensorrt.build._REPORT_S", 0.0)
    seen: list[BuildProgress] = []
    assert device.build_into_cache(model, seen.append, golden=False)
    percents = [progress.percent for progress in seen]
    assert percents == sorted(percents)
    assert max(percents) >= 50
    assert {progress.phase for progress in seen} == {"Building engine", "Tactics"}


def test_what_was_measured_is_kept_for_the_next_build(device: TensorRtDevice, model: ModelFile, world: World) -> None:
    device.build_into_cache(model, golden=False)
    assert not device.build_into_cache(model, golden=False)
    assert device.build_into_cache(model, golden=False, force=True)
    assert world.timing_caches == [b"", b"+"]


def test_dla_is_refused_without_cores_and_where_layers_do_not_run_there(model: ModelFile, settings: ModelConfig, world: World) -> None:
    device = TensorRtDevice(msgspec.structs.replace(settings, dla=True))
    with pytest.raises(ConfigError, match=r"model.dla is true, but tensorrt 10.3.0 reports no DLA core on this device"):
        device.build_into_cache(model, golden=False)
    world.dla_cores = 2
    with pytest.raises(ConfigError, match=r"runs 1 of 1 quantized layers and convolutions on no DLA core \(such as conv1\)"):
        device.build_into_cache(model, golden=False)
    world.dla_takes = True
    assert device.build_into_cache(model, golden=False)


def test_profiles_cover_cameras_tiles_and_crops(tmp_path: Path, model: ModelFile) -> None:
    assert Profile.of(model, 0).words == "1x32x32,1x128x256,8x256x256"
    assert Profile.of(model, 640).most == (8, 640, 640)
    crops = read_model(write_refiner(tmp_path / "refiner.onnx"))
    assert Profile.of(crops, 320).words == "1x64x64,1x64x64,8x64x64"
    one = read_model(write_edgepose(tmp_path / "one.onnx", input_shape=(1, 64, 96, 3)))
    assert Profile.of(one, 0).most == (1, 64, 96)


def test_a_file_of_fixed_size_needs_no_profile(device: TensorRtDevice, tmp_path: Path) -> None:
    model = read_model(write_edgepose(tmp_path / "one.onnx", input_shape=(1, 64, 96, 3)))
    device.build_into_cache(model, golden=False)
    network = device.open_cached(model, "")
    assert isinstance(network, TensorRtBackend)
    assert network.run(np.concatenate((WHITE, WHITE))).scores.shape[0] == 2


# --- libraries


def use(monkeypatch: pytest.MonkeyPatch, world: World, name: str, version: str) -> None:
    world.version = version
    install(world, monkeypatch, name=name)


def test_tensorrt_for_rtx_is_used_where_it_is_the_only_one(
    model: ModelFile, settings: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    use(monkeypatch, world, "tensorrt_rtx", "1.7.1.116")
    device = TensorRtDevice(settings)
    device.build_into_cache(model, golden=False)
    assert device.library.words == "tensorrt_rtx 1.7.1.116"
    assert world.timing_caches == []  # they do nothing there
    network = device.open_cached(model, "")
    assert network is not None
    assert network.name == "tensorrt-rtx"


def test_jetpack_5_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, World(), "tensorrt", "8.5.2.2")
    with pytest.raises(ConfigError, match=r"tensorrt 8.5.2.2 is installed; JetPack 5 and older have no newer one; expected tensorrt 10"):
        load_library()


def test_a_library_that_is_not_there_or_not_whole_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = World()
    install(world, monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ConfigError, match=r"TensorRT is not .*; expected tensorrt 10 or newer: on a Jetson, JetPack's own"):
        load_library()
    install(world, monkeypatch)
    delattr(sys.modules["tensorrt"], "Builder")
    with pytest.raises(ConfigError, match=r"tensorrt 10.3.0 has no builder: its libraries are missing"):
        load_library()
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"tensorrt cannot be loaded: libnvinfer.so.10: cannot open shared object file"):
        load_library()


def test_tensorrt_rtx_itself_builds_and_says_that_it_has_no_device(model: ModelFile) -> None:
    """The real library: it builds without a GPU, and the runtime returns None."""
    pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    library = load_library()
    seen: list[BuildProgress] = []
    logged: list[str] = []

    def sink(severity: str, text: str) -> None:
        logged.append(severity)

    built = build_engine(library, BuildRequest(model, Profile.of(model, 0)), seen.append, sink)
    assert len(built.plan) > 1000
    assert built.timing_cache == b""
    assert seen[-1].percent > 50
    assert "verbose" in logged
    with pytest.raises(ModelError, match=r"tensorrt_rtx .* does not take .*tiny.onnx"):
        build_engine(library, BuildRequest(ModelFile(model.path, "", model.info, b"no model"), Profile.of(model, 0)))
    world = World()
    from edgepose.engine.device_memory import CudaPythonMemory
    from testing.cuda_stand_in import cuda_runtime

    with pytest.raises(EngineError, match=r"tensorrt_rtx .* does not load the engine: .*(CUDA|cuda)"):
        TensorRtRunner(library, CudaPythonMemory(cuda_runtime(world)), built.plan)
