"""Names of shipped models, and which of a model's files a backend and a precision select."""

from pathlib import Path

import pytest

import edgepose.model.shipped
from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import pose_model, refiner_model
from edgepose.errors import ModelError
from edgepose.model.shipped import BackendChoice, PrecisionChoice, find_model, named_model, shipped_models
from testing.onnx_files import write_edgepose, write_refiner

FLOAT = {"edgepose.precision": "float32", "edgepose.calibration": None}
FLOAT_FOR_INT8 = {**FLOAT, "edgepose.cpu_precision": "int8"}


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pose networks and a refiner: all files, of which INT8 is better on CPUs; float is better; INT8 only."""
    folder = tmp_path / "assets"
    folder.mkdir()
    write_edgepose(folder / "ghost-n.onnx", metadata=FLOAT_FOR_INT8)
    write_edgepose(folder / "ghost-n-int8.onnx")
    write_edgepose(folder / "ghost-n-tensorrt.onnx")
    write_edgepose(folder / "plain.onnx", metadata=FLOAT)
    write_edgepose(folder / "plain-int8.onnx")
    write_edgepose(folder / "small.onnx")
    write_refiner(folder / "again.onnx", metadata=FLOAT_FOR_INT8)
    write_refiner(folder / "again-int8.onnx")
    monkeypatch.setattr(edgepose.model.shipped, "_ASSETS", folder)
    return folder


@pytest.mark.parametrize(
    ("name", "backend", "precision", "file"),
    [
        ("ghost-n", "auto", "auto", "ghost-n-int8"),  # as the float file says
        ("ghost-n", "cpu", "auto", "ghost-n-int8"),
        ("ghost-n", "cuda", "auto", "ghost-n"),
        ("ghost-n", "tensorrt", "auto", "ghost-n-tensorrt"),
        ("ghost-n", "cpu", "float32", "ghost-n"),
        ("ghost-n", "tensorrt", "float32", "ghost-n"),
        ("ghost-n", "tensorrt", "int8", "ghost-n-tensorrt"),
        ("ghost-n", "auto", "int8", "ghost-n-int8"),
        ("default", "cpu", "auto", "ghost-n-int8"),
        ("default", "cpu", "float32", "ghost-n"),
        ("plain", "cpu", "auto", "plain"),  # which is the same without a word about it
        ("plain", "cpu", "int8", "plain-int8"),
        ("plain", "tensorrt", "auto", "plain"),
        ("small", "cpu", "auto", "small"),
        ("small", "cpu", "int8", "small"),
        ("again", "cpu", "auto", "again-int8"),
        ("again", "tensorrt", "auto", "again"),
        ("ghost-n-tensorrt", "cpu", "float32", "ghost-n-tensorrt"),  # one file by its whole name
    ],
)
def test_a_name_selects_the_file_for_the_backend_and_the_precision(
    assets: Path, name: str, backend: BackendChoice, precision: PrecisionChoice, file: str
) -> None:
    assert find_model(name, backend=backend, precision=precision) == assets / f"{file}.onnx"


@pytest.mark.parametrize(
    ("name", "backend", "precision"), [("small", "cpu", "float32"), ("plain", "tensorrt", "int8"), ("again", "tensorrt", "int8")]
)
def test_a_missing_precision_is_refused(assets: Path, name: str, backend: BackendChoice, precision: PrecisionChoice) -> None:
    said = f"'{name}' has no file of precision {precision} for the backend {backend}; expected model.precision auto"
    with pytest.raises(ModelError, match=said):
        find_model(name, backend=backend, precision=precision)


def test_a_path_is_taken_as_it_is(assets: Path, tmp_path: Path) -> None:
    path = write_edgepose(tmp_path / "mine.onnx")
    assert find_model(str(path), backend="tensorrt", precision="float32") == path


def test_the_configuration_selects_both_files(assets: Path) -> None:
    settings = ModelConfig(backend="cpu", precision="float32")
    assert pose_model(settings).path.name == "ghost-n.onnx"
    assert refiner_model("again", settings).path.name == "again.onnx"
    assert refiner_model("again", ModelConfig(backend="cpu")).path.name == "again-int8.onnx"


def test_default_is_another_name_unless_a_file_has_it(assets: Path) -> None:
    assert find_model("default", precision="float32") == assets / "ghost-n.onnx"
    own = write_edgepose(assets / "default.onnx")
    assert find_model("default") == own


def test_the_listed_names_have_no_suffixes(assets: Path) -> None:
    assert shipped_models() == {"ghost-n": "pose", "plain": "pose", "small": "pose", "again": "refine"}
    shipped = r"the shipped models are ghost-n \(pose\), plain \(pose\), small \(pose\), again \(refine\)$"
    with pytest.raises(ModelError, match=rf"no model 'other': there is no such file, and {shipped}"):
        named_model("other", "refine")
    for name in ("again", str(assets / "again.onnx")):
        with pytest.raises(ModelError, match=rf"again(-int8)?.onnx is a refiner \(task 'refine'\); expected a pose network .*; {shipped}"):
            named_model(name, "pose")
    with pytest.raises(ModelError, match=rf"small.onnx is a pose network \(task 'pose'\); expected a refiner .*; {shipped}"):
        named_model("small", "refine")


def test_the_real_shipped_models_can_be_found() -> None:
    for name, task in shipped_models().items():
        assert named_model(name, task).info.task == task
    assert named_model("default", "pose").info.task == "pose"
