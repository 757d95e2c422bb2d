from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgepose.config import schema
from edgepose.engine.backend import Backend, RefinerBackend, open_backend, open_refiner_backend, warm_up
from edgepose.engine.native_errors import ERRORS_WHEN_LOADING
from edgepose.engine.onnxruntime import OnnxRuntimeBackend, default_threads, open_onnxruntime
from edgepose.errors import ConfigError, EngineError, ModelError
from edgepose.model.file import ModelFile, read_model
from edgepose.person import Candidates
from testing.onnx_files import CANDIDATES, answers, refined, write_edgepose, write_refiner

WHITE = np.full((1, 64, 96, 3), 255, np.uint8)
CROP = np.full((1, 64, 64, 3), 255, np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return read_model(write_edgepose(tmp_path / "tiny.onnx"))


@pytest.fixture
def backend(model: ModelFile) -> Backend:
    return open_backend(model, schema.ModelConfig(backend="cpu", threads=1))


def test_candidates_are_the_outputs_of_the_network(backend: Backend) -> None:
    candidates = backend.run(WHITE)
    boxes, scores, keypoints = answers()
    np.testing.assert_allclose(candidates.boxes[0], boxes)
    np.testing.assert_allclose(candidates.scores[0], scores, rtol=1e-5)
    np.testing.assert_allclose(candidates.keypoints[0], keypoints)
    assert candidates.boxes.dtype == candidates.scores.dtype == candidates.keypoints.dtype == np.float32


def test_images_of_a_batch_are_independent(backend: Backend) -> None:
    images = np.concatenate((WHITE, WHITE // 2, WHITE * 0))
    scores = backend.run(images).scores
    np.testing.assert_allclose(scores, answers()[1] * np.array([[1.0], [127 / 255], [0.0]]), rtol=1e-5)


def test_a_file_for_one_image_runs_a_batch_one_by_one(tmp_path: Path) -> None:
    model = read_model(write_edgepose(tmp_path / "one.onnx", input_shape=(1, 64, 96, 3)))
    candidates = open_backend(model, schema.ModelConfig(threads=1)).run(np.concatenate((WHITE, WHITE // 2)))
    assert candidates.keypoints.shape == (2, CANDIDATES, 17, 3)
    np.testing.assert_allclose(candidates.scores[1] / candidates.scores[0], 127 / 255, rtol=1e-5)


def test_views_that_are_not_contiguous_are_accepted(backend: Backend) -> None:
    padded = np.full((1, 64, 128, 3), 255, np.uint8)
    np.testing.assert_allclose(backend.run(padded[:, :, :96]).scores, backend.run(WHITE).scores)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.zeros((1, 64, 96, 3), np.float32), r"float32 \(1, 64, 96, 3\)"),
        (np.zeros((64, 96, 3), np.uint8), r"uint8 \(64, 96, 3\)"),
        (np.zeros((1, 3, 64, 96), np.uint8), r"uint8 \(1, 3, 64, 96\)"),
        (np.zeros((1, 64, 100, 3), np.uint8), r"uint8 \(1, 64, 100, 3\)"),
        (np.zeros((0, 64, 96, 3), np.uint8), r"uint8 \(0, 64, 96, 3\)"),
    ],
)
def test_wrong_images_are_refused(backend: Backend, images: np.ndarray, found: str) -> None:
    with pytest.raises(EngineError, match=f"the images are {found}; expected uint8 .*multiples of 32"):
        backend.run(images)


def test_fixed_size_is_named(tmp_path: Path) -> None:
    model = read_model(write_edgepose(tmp_path / "m.onnx", input_shape=("N", 64, 64, 3)))
    with pytest.raises(EngineError, match=r"expected uint8 \(N, 64, 64, 3\)"):
        open_backend(model, schema.ModelConfig(threads=1)).run(WHITE)


def test_scores_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    scores = np.full(CANDIDATES, np.nan, np.float32)
    model = read_model(write_edgepose(tmp_path / "broken.onnx", scores=scores))
    with pytest.raises(ModelError, match=r"broken.onnx does not work: .* returned scores that are not finite"):
        open_backend(model, schema.ModelConfig(threads=1))


def test_a_closed_backend_reports_it(backend: Backend) -> None:
    backend.close()
    backend.close()
    with pytest.raises(EngineError, match="is closed"):
        backend.run(WHITE)


def test_warm_up_runs_the_given_size(backend: Backend) -> None:
    warm_up(backend, 64, 96)
    with pytest.raises(EngineError, match="multiples of 32"):
        warm_up(backend, 64, 97)


def test_a_backend_describes_itself(model: ModelFile) -> None:
    backend = open_backend(model, schema.ModelConfig(backend="cpu", threads=3))
    assert (backend.name, backend.device, backend.precision) == ("onnxruntime-cpu", "cpu, 3 threads", "int8")
    assert backend.reason == "the configuration selects cpu"
    automatic = open_backend(model, schema.ModelConfig())
    assert automatic.reason
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert automatic.name == "onnxruntime-cpu"
        assert automatic.reason == "this onnxruntime has no cuda"


def test_a_library_without_cuda_is_a_wrong_installation(model: ModelFile) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built with cuda")
    with pytest.raises(ConfigError, match=r"has no cuda, only cpu; expected the extra gpu .*pip install '"):
        open_backend(model, schema.ModelConfig(backend="cuda"))


class _FakeLibrary:
    """An ONNX Runtime that was compiled with CUDA; `works` says whether the driver is there."""

    def __init__(self, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        real_session = onnxruntime.InferenceSession

        class Session:
            def __init__(self, path: str, options: object, providers: list[str], enable_fallback: int) -> None:
                assert enable_fallback == 0
                self._session = real_session(path, options, providers=["CPUExecutionProvider"])
                self._providers = [name for name in providers if works or name == "CPUExecutionProvider"]

            def get_providers(self) -> list[str]:
                return self._providers

            def __getattr__(self, name: str) -> object:
                return getattr(self._session, name)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_provider_that_silently_does_not_start_is_an_error(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    _FakeLibrary(works=False, monkeypatch=monkeypatch)
    # The libraries of the provider are not here: a wrong installation, which a restart does not correct.
    with pytest.raises(ConfigError, match=r"cuda does not start on this machine: .*; expected the libraries of CUDA and cuDNN"):
        open_backend(model, schema.ModelConfig(backend="cuda"))
    # Where they load, the device is at fault: systemd tries again.
    monkeypatch.setattr("edgepose.engine.onnxruntime.ctypes.CDLL", lambda path, mode=0: None)
    with pytest.raises(EngineError, match=r"cuda does not start on this machine: no device"):
        open_backend(model, schema.ModelConfig(backend="cuda"))


def test_a_file_that_fails_on_every_device_is_refused_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.full(CANDIDATES, np.nan, np.float32)
    model = read_model(write_edgepose(tmp_path / "broken.onnx", scores=scores))
    _FakeLibrary(works=True, monkeypatch=monkeypatch)
    for backend in ("cuda", "auto"):
        with pytest.raises(ModelError, match=r"broken.onnx does not work: onnxruntime-cpu returned scores that are not finite"):
            open_backend(model, schema.ModelConfig(backend=backend))


def test_auto_without_a_driver_uses_the_cpu_and_says_why(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    _FakeLibrary(works=False, monkeypatch=monkeypatch)
    backend = open_backend(model, schema.ModelConfig())
    assert backend.name == "onnxruntime-cpu"
    assert "cuda does not start" in backend.reason


def test_auto_times_the_backends_that_work(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    _FakeLibrary(works=True, monkeypatch=monkeypatch)
    backend = open_backend(model, schema.ModelConfig())
    assert "onnxruntime-cuda" in backend.reason
    assert "onnxruntime-cpu" in backend.reason
    assert backend.reason.startswith("the fastest backend here: ")
    assert backend.run(WHITE).scores.shape == (1, CANDIDATES)


def test_auto_skips_a_device_that_loads_but_does_not_run(model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    _FakeLibrary(works=True, monkeypatch=monkeypatch)
    run = OnnxRuntimeBackend.run

    def run_on_cpu_only(self: OnnxRuntimeBackend, images: NDArray[np.uint8]) -> Candidates:
        if self.name == "onnxruntime-cuda":
            raise EngineError("out of memory")
        return run(self, images)

    monkeypatch.setattr(OnnxRuntimeBackend, "run", run_on_cpu_only)
    backend = open_backend(model, schema.ModelConfig())
    assert (backend.name, backend.reason) == ("onnxruntime-cpu", "the only backend that works here: out of memory")


def test_input_size_is_checked_before_anything_runs(model: ModelFile) -> None:
    with pytest.raises(ModelError, match="multiple of 32"):
        open_backend(model, schema.ModelConfig(input_size=300))


def test_what_runs_is_what_was_hashed(model: ModelFile) -> None:
    model.path.write_bytes(b"changed")
    assert open_backend(model, schema.ModelConfig(threads=1)).run(WHITE).scores.shape == (1, CANDIDATES)
    model.path.unlink()
    assert open_backend(model, schema.ModelConfig(threads=1)).run(WHITE).scores.shape == (1, CANDIDATES)


def test_every_exception_of_onnx_runtime_is_mapped() -> None:
    raised = {name for name, value in vars(native).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert raised <= set(ERRORS_WHEN_LOADING)


@pytest.mark.parametrize("name", sorted(name for name in ERRORS_WHEN_LOADING if hasattr(native, name)))
def test_every_exception_becomes_ours(model: ModelFile, backend: Backend, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *_: object, **__: object) -> None:
            raise getattr(native, name)("[ONNXRuntimeError] : first line\nsecond line")

        def run(self, *_: object) -> None:
            raise getattr(native, name)("it broke")

    monkeypatch.setattr(backend, "_session", Session.__new__(Session))
    with pytest.raises(EngineError, match="it broke"):
        backend.run(WHITE)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(ERRORS_WHEN_LOADING[name], match="first line second line"):
        open_backend(model, schema.ModelConfig(backend="cpu"))


def test_default_threads_are_physical_cores() -> None:
    assert 1 <= default_threads() <= 4


@pytest.fixture
def refiner(tmp_path: Path) -> RefinerBackend:
    return open_refiner_backend(read_model(write_refiner(tmp_path / "refiner.onnx")), schema.ModelConfig(backend="cpu", threads=1))


def test_a_refiner_returns_the_outputs_of_the_network(refiner: RefinerBackend) -> None:
    keypoints = refiner.run(CROP)
    assert keypoints.dtype == np.float32
    np.testing.assert_allclose(keypoints[0], refined(), rtol=1e-5)
    assert (refiner.name, refiner.device, refiner.precision) == ("onnxruntime-cpu", "cpu, 1 thread", "int8")
    assert refiner.reason == "the configuration selects cpu"


@pytest.mark.parametrize("batch", ["M", 1])
def test_crops_are_independent_for_every_batch_size(tmp_path: Path, batch: int | str) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx", input_shape=(batch, 64, 64, 3)))
    keypoints = open_refiner_backend(model, schema.ModelConfig(threads=1)).run(np.concatenate((CROP, CROP // 2, CROP * 0)))
    np.testing.assert_allclose(keypoints[..., :2], np.repeat(refined()[None, :, :2], 3, axis=0))
    np.testing.assert_allclose(keypoints[..., 2], refined()[:, 2] * np.array([[1.0], [127 / 255], [0.0]]), rtol=1e-5)


def float_convolution_between_q_and_dq(model: onnx.ModelProto) -> None:
    """Make a refiner answer (20, 40, 0.5) from red, through a float convolution that has large weights for blue too."""
    weights = np.zeros((51, 3, 1, 1), np.float32)
    weights[:, 0, 0, 0] = np.tile([20, 40, 0.5], 17) / 254
    weights[0, 2] = 1000
    one, half = (numpy_helper.from_array(np.float32(scale), name) for scale, name in ((2, "one"), (0.5, "half")))
    zero = numpy_helper.from_array(np.int8(0), "zero")
    shape = numpy_helper.from_array(np.array([-1, 17, 3], np.int64), "shape")
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.initializer.extend([one, half, zero, shape, numpy_helper.from_array(weights, "weights")])
    for kind, inputs, output, attributes in (
        ("Cast", ["crops"], "float", {"to": onnx.TensorProto.FLOAT}),
        ("Transpose", ["float"], "planes", {"perm": [0, 3, 1, 2]}),
        ("QuantizeLinear", ["planes", "one", "zero"], "planes_q", {}),
        ("DequantizeLinear", ["planes_q", "one", "zero"], "planes_dq", {}),
        ("Conv", ["planes_dq", "weights"], "maps", {"kernel_shape": [1, 1]}),
        ("QuantizeLinear", ["maps", "half", "zero"], "maps_q", {}),
        ("DequantizeLinear", ["maps_q", "half", "zero"], "maps_dq", {}),
        ("ReduceMean", ["maps_dq"], "mean", {"axes": [2, 3], "keepdims": 0}),
        ("Reshape", ["mean", "shape"], "keypoints", {}),
    ):
        model.graph.node.append(helper.make_node(kind, inputs, [output], **attributes))


def test_a_reference_computes_in_the_types_of_the_file(tmp_path: Path) -> None:
    """ONNX Runtime quantizes the weights of a float convolution between DQ and Q by itself: no engine is held to that."""
    model = onnx.load(str(write_refiner(tmp_path / "refiner.onnx")))
    float_convolution_between_q_and_dq(model)
    onnx.save(model, str(tmp_path / "mixed.onnx"))
    file = read_model(tmp_path / "mixed.onnx")
    red = np.zeros((1, 64, 64, 3), np.uint8)
    red[..., 0] = 254
    reference = open_onnxruntime(file, schema.ModelConfig(backend="cpu", threads=1), exact=True)
    np.testing.assert_allclose(np.asarray(reference.run(red))[0], np.tile([20, 40, 0.5], (17, 1)))
    fast = open_onnxruntime(file, schema.ModelConfig(backend="cpu", threads=1))
    with pytest.raises(EngineError, match="keypoints from 0 to 0"):  # where this fails, ONNX Runtime does so no more: `exact` may go
        fast.run(red)


def test_crops_need_not_be_square(tmp_path: Path) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx", input_shape=("M", 64, 32, 3)))
    refiner = open_refiner_backend(model, schema.ModelConfig(threads=1))
    assert refiner.run(np.zeros((2, 64, 32, 3), np.uint8)).shape == (2, 17, 3)
    with pytest.raises(EngineError, match=r"expected uint8 \(M, 64, 32, 3\)"):
        refiner.run(np.zeros((2, 32, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("crops", "found"),
    [
        (np.zeros((1, 64, 64, 3), np.float32), r"float32 \(1, 64, 64, 3\)"),
        (np.zeros((64, 64, 3), np.uint8), r"uint8 \(64, 64, 3\)"),
        (np.zeros((1, 64, 96, 3), np.uint8), r"uint8 \(1, 64, 96, 3\)"),
        (np.zeros((0, 64, 64, 3), np.uint8), r"uint8 \(0, 64, 64, 3\)"),
    ],
)
def test_wrong_crops_are_refused(refiner: RefinerBackend, crops: np.ndarray, found: str) -> None:
    with pytest.raises(EngineError, match=f"the crops are {found}; expected uint8 .M, 64, 64, 3."):
        refiner.run(crops)


def test_keypoints_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    model = read_model(write_refiner(tmp_path / "broken.onnx", keypoints=np.full((17, 3), np.nan, np.float32)))
    with pytest.raises(ModelError, match=r"broken.onnx does not work: .* returned keypoints that are not finite"):
        open_refiner_backend(model, schema.ModelConfig(threads=1))


def test_a_closed_refiner_reports_it(refiner: RefinerBackend) -> None:
    refiner.close()
    with pytest.raises(EngineError, match="is closed"):
        refiner.run(CROP)


def test_a_refiner_ignores_the_input_size_of_the_pose_network(tmp_path: Path) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx"))
    assert open_refiner_backend(model, schema.ModelConfig(threads=1, input_size=320)).run(CROP).shape == (1, 17, 3)


def test_a_refiner_does_not_fall_back_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_model(write_refiner(tmp_path / "refiner.onnx"))
    _FakeLibrary(works=False, monkeypatch=monkeypatch)
    with pytest.raises(ConfigError, match=r"cuda does not start on this machine"):
        open_refiner_backend(model, schema.ModelConfig(backend="cuda"))


def test_each_kind_of_network_is_opened_as_its_own_kind(tmp_path: Path, model: ModelFile) -> None:
    refiner = read_model(write_refiner(tmp_path / "refiner.onnx"))
    with pytest.raises(ModelError, match=r"refiner.onnx is a refiner .*; expected a pose network"):
        open_backend(refiner, schema.ModelConfig())
    with pytest.raises(ModelError, match=r"tiny.onnx is a pose network .*; expected a refiner"):
        open_refiner_backend(model, schema.ModelConfig())
