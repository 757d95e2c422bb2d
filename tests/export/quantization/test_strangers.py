"""Networks of others in INT8: the roles found in their graphs, the parts in float, the files in the runtime, and every refusal."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend
from edgepose.engine.tensorrt.library import load_library
from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.onnx_file import file_hash, write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.graph import Graph, float_convolutions, place
from edgepose_export.quantization.half import to_half
from edgepose_export.quantization.head import last_convolutions, with_network_names
from edgepose_export.quantization.quantize import CalibratedModel, calibrate, default_places, load_float, quantize
from edgepose_export.quantization.search import check_drop, search_float_parts
from edgepose_export.quantization.sensitivity import map_error, map_tensors, parts, run_maps
from edgepose_export.quantization.tensorrt_report import engine_layers
from testing.export.ultralytics_layout import EndToEnd, write_layout
from testing.export.yolo_like import YoloLike
from testing.onnx_files import write_ultralytics

SIDE = 96
FORMS = ("anchors", "end to end")


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, stride = tmp_path_factory.mktemp("strangers"), {"stride": "16"}
    dense = YoloLike()
    return {
        "anchors": write_layout(dense, folder / "anchors.onnx", SIDE, metadata=stride),
        "end to end": write_layout(EndToEnd(dense, 30), folder / "end.onnx", SIDE, metadata=stride | {"end2end": "True"}),
    }


@pytest.fixture(scope="module")
def stranger(strangers: dict[str, Path]) -> Path:
    return strangers["anchors"]


@pytest.fixture(scope="module")
def calibrated(stranger: Path, pictures: CalibrationSet) -> CalibratedModel:
    return calibrate(stranger, pictures)


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_that_is_quantized_computes_the_same(form: str, strangers: dict[str, Path]) -> None:
    image = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    (before,) = opened(onnx.load(str(strangers[form]))).run(None, {"images": image})
    (after,) = opened(load_float(strangers[form])).run(None, {"images": image})
    np.testing.assert_allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_head_is_found_without_names(form: str, named: bool, strangers: dict[str, Path]) -> None:
    model = onnx.load(str(strangers[form]))
    for node in model.graph.node:
        node.name = node.name if named else ""
    graph = Graph(with_network_names(model))
    last = last_convolutions(graph)
    channels = sorted(numpy_helper.to_array(graph.constants[node.input[1]]).shape[0] for node in last)
    assert channels == [1, 1, 32, 32, 51, 51]  # two levels; the mean of a distribution is decoding
    decoding = {node.op_type for node in graph.nodes if not node.name.startswith("/network/")}
    assert {"Softmax", "Conv", "Reshape"} <= decoding
    assert len(graph.convolutions()) == sum(node.op_type == "Conv" for node in graph.nodes) - 1
    assert len({place(node) for node in graph.convolutions()}) == len(graph.convolutions())


@pytest.mark.parametrize("form", FORMS)
def test_the_runtime_runs_the_file_and_finds_about_the_same(
    form: str, strangers: dict[str, Path], pictures: CalibrationSet, tmp_path: Path
) -> None:
    source, path = strangers[form], tmp_path / "int8.onnx"
    write_model(quantize(source, pictures), path)
    file = read_model(path)
    assert (file.info.layout, file.info.precision, file.info.parent) == ("ultralytics", "int8", file_hash(source))
    assert file.info.calibration is not None
    assert file.info.calibration.hash == pictures.hash()
    found, expected = (
        open_backend(read_model(each), ModelConfig(threads=1)).run(next(pictures.images(file.info))) for each in (path, source)
    )
    # The weights are random: many anchors have about the same score, so only the scores can be compared one by one.
    assert abs(found.scores[0, 0] - expected.scores[0, 0]) < 0.1
    graph = load_float(source)
    maps, inputs = map_tensors(graph), list(pictures.inputs(file.info))[:2]
    reference, other = (run_maps(model, maps, lambda: iter(inputs)) for model in (graph, onnx.load(str(path))))
    assert map_error(reference, other) < 0.05


def test_on_the_cpu_all_but_the_head_is_integers(calibrated: CalibratedModel, stranger: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    model = calibrated.quantized(default_places(stranger, "cpu"))
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "fused.onnx")).graph.node]
    assert kinds.count("QLinearConv") == sum(node.op_type == "Conv" for node in model.graph.node) - 7  # six raw maps and the mean
    # A SiLU before a raw map is float; what is split, enlarged or a maximum stays in integers.
    assert kinds.count("QLinearSigmoid") == kinds.count("QLinearMul") == sum(kind == "Sigmoid" for kind in kinds) + 6
    fused = Graph(onnx.load(str(tmp_path / "fused.onnx")))
    for node in fused.nodes:
        if node.op_type in ("Split", "MaxPool", "Resize") and node.input[0] in fused.producer and "network" in node.name:
            assert fused.producer[node.input[0]].op_type != "DequantizeLinear", node.name


def test_for_tensorrt_a_silu_is_float_and_the_first_convolution_too(stranger: Path, pictures: CalibrationSet, tmp_path: Path) -> None:
    model = quantize(stranger, pictures, target="tensorrt")
    assert tensorrt_objections(model) == []
    graph = Graph(model)
    listed = float_convolutions(model)
    assert len(listed) == 8
    makers = {graph.producer[node.input[0]].op_type for node in graph.nodes if node.op_type == "Sigmoid" and "/stem/" in node.name}
    assert makers == {"Conv"}
    pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    write_model(to_half(model), tmp_path / "half.onnx")
    found = engine_layers(load_library(), tmp_path / "half.onnx")
    assert found.objections(listed) == []
    assert sum(entry.precision == "Int8" for entry in found.convolutions) == 22
    assert found.float_share() <= 0.15


def test_the_search_keeps_what_the_accuracy_needs_in_float(calibrated: CalibratedModel) -> None:
    order = parts(calibrated.model)
    needed = {"deep.1.last.0", "stem.1.0"}
    assert needed < set(order)

    def accuracy(model: onnx.ModelProto) -> float:
        graph = Graph(model)  # a convolution with plain weights is float
        return 0.5 - 0.01 * len(needed - {place(node) for node in graph.convolutions() if node.input[1] in graph.constants})

    made = search_float_parts(calibrated, order, accuracy, reference=0.5, max_drop=0.005)
    assert set(made.best.float_places) == needed | {place(node) for node in last_convolutions(Graph(calibrated.model))}
    assert made.best.accuracy == 0.5
    everything = search_float_parts(calibrated, order, accuracy, reference=0.5, max_drop=0.025)
    assert len(everything.trials) == 1
    with pytest.raises(ModelError, match=r"AP of 0\.4000, 0\.1000 less than in float; expected at most 0\.005 less, so no file"):
        search_float_parts(calibrated, order, lambda model: 0.4, reference=0.5, max_drop=0.005)
    check_drop("x", 0.496, reference=0.5, max_drop=0.005)


REFUSED = {
    "no pictures": ([], "calibration needs pictures"),
    "an empty set": (["--data", "EMPTY"], "lists no images"),
    "a wrong folder": (["--data", "WRONG"], "annotations.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_calibration_set_is_refused_in_one_sentence(
    name: str, stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = REFUSED[name]
    (tmp_path / "empty" / "images").mkdir(parents=True)
    (tmp_path / "empty" / "annotations.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "wrong").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "WRONG": str(tmp_path / "wrong")}
    output = tmp_path / "int8.onnx"
    assert run(["quantize", str(stranger), *(places.get(each, each) for each in arguments), "--output", str(output)]) == 78
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_file_that_is_no_pose_network_is_refused(strangers: dict[str, Path], pictures: CalibrationSet, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(strangers["anchors"].read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"corrupt\.onnx is not an ONNX file"):
        quantize(corrupt, pictures)
    broken = onnx.load(str(strangers["anchors"]))
    broken.graph.node[0].input[0] = "nobody"
    onnx.save(broken, str(tmp_path / "broken.onnx"))
    with pytest.raises(ModelError, match=r"broken\.onnx: onnxruntime refuses the network: "):
        quantize(tmp_path / "broken.onnx", pictures)
    with pytest.raises(ModelError, match="the file's task is 'detect'; expected 'pose'"):
        quantize(write_layout(YoloLike(), tmp_path / "detect.onnx", SIDE, metadata={"task": "detect"}), pictures)
    with pytest.raises(ModelError, match=r"no convolution .* leads to an output of the network; expected a pose network's head"):
        quantize(write_ultralytics(tmp_path / "headless.onnx"), pictures)


def test_a_drop_above_the_limit_writes_nothing(stranger: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "int8.onnx"
    measured = ["--data", str(data), "--pictures", "32", "--output", str(output), "--evaluate", str(data), "--limit", "2"]
    assert run(["quantize", str(stranger), *measured, "--max-drop", "0.5"]) == 0
    assert read_model(output).info.precision == "int8"
    output.unlink()
    capsys.readouterr()
    assert run(["quantize", str(stranger), *measured]) == 64
    assert "expected both or none" in capsys.readouterr().err
    assert not output.exists()


ULTRALYTICS = "EDGEPOSE_ULTRALYTICS_PYTHON"


@pytest.mark.skipif(ULTRALYTICS not in os.environ, reason=f"{ULTRALYTICS} names no Python in which the package ultralytics is installed")
@pytest.mark.parametrize("name", ["yolov8n-pose", "yolo11n-pose", "yolo26n-pose", "yolo26n-pose-end"])
def test_real_exports(name: str, data: Path, tmp_path: Path) -> None:
    from tools.measure_strangers import export

    source = export(os.environ[ULTRALYTICS], name, 160, tmp_path)
    image = np.random.default_rng(0).random((1, 3, 160, 160), np.float32)
    (before,) = opened(onnx.load(str(source))).run(None, {"images": image})
    (after,) = opened(load_float(source)).run(None, {"images": image})
    np.testing.assert_allclose(after, before, atol=1e-3)
    for target in ("cpu", "tensorrt"):
        write_model(quantize(source, CalibrationSet([data], 32), target=target), tmp_path / "int8.onnx")
        backend = open_backend(read_model(tmp_path / "int8.onnx"), ModelConfig(threads=1))
        assert backend.run(np.zeros((1, 160, 160, 3), np.uint8)).boxes.shape[0] == 1
