"""The shipped networks in INT8 and in half precision, built by a real TensorRT without a GPU."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.engine.golden import compare_candidates, golden_crops, golden_image
from edgepose.engine.tensorrt.library import load_library
from edgepose.errors import ModelError
from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose.model.shipped import named_model, shipped_models
from edgepose_export.cli.main import cli
from edgepose_export.onnx_file import set_metadata, write_model
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.graph import FLOAT_CONVOLUTIONS, float_convolutions, make_plan
from edgepose_export.quantization.half import to_half, with_full_weights
from edgepose_export.quantization.islands import TENSORRT_FLOAT_PLACES
from edgepose_export.quantization.qdq import insert
from edgepose_export.quantization.tensorrt_report import engine_layers, listed_as_float, parse_layers
from testing.stranger_models import write_yolo_network

NAMES = sorted(shipped_models())
CPU = ModelConfig(backend="cpu", threads=1)


def quantized(name: str) -> onnx.ModelProto:
    """Return a shipped network in INT8 for TensorRT, with one range for all tensors: what is built does not depend on them."""
    file = named_model(name, shipped_models()[name], backend="cuda")
    model = with_full_weights(onnx.load_from_string(file.data))
    plan = make_plan(model, TENSORRT_FLOAT_PLACES[file.info.task])
    result = insert(model, plan, dict.fromkeys(plan.tensors, (-8.0, 8.0)), symmetric=True)
    set_metadata(result, {METADATA_PREFIX + FLOAT_CONVOLUTIONS: json.dumps(float_convolutions(result))})
    return result


@pytest.mark.parametrize("name", [name for name in NAMES if name != "refine-s"])  # which has the layers of refine-n
def test_what_lies_between_q_and_dq_is_int8_and_the_rest_is_what_the_file_lists(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    path = tmp_path / f"{name}.onnx"
    write_model(to_half(quantized(name)), path)
    found = engine_layers(load_library(), path)
    listed = listed_as_float(onnx.load(str(path)))
    assert listed is not None
    assert found.objections(listed) == []
    assert {entry.node for entry in found.convolutions if entry.precision != "Int8"} == set(listed)
    assert {entry.why for entry in found.convolutions} == {"", "the file keeps it in float"}
    assert found.float_share() <= 0.15
    assert found.plan_bytes > 1e6
    assert found.objections([*listed, "invented"]) == ["invented is listed as float, but is INT8 in the engine"]
    assert len(found.objections(listed[1:])) == 1


@pytest.mark.parametrize("name", ["ghost-n", "refine-n"])
def test_half_precision_finds_the_same_people_and_builds(name: str, tmp_path: Path) -> None:
    task = shipped_models()[name]
    file = named_model(name, task, backend="cuda")
    path = tmp_path / f"{name}-half.onnx"
    write_model(to_half(onnx.load_from_string(file.data)), path)
    half = read_model(path)
    assert half.info.precision == "float16"
    assert path.stat().st_size < 1.2 * file.path.stat().st_size
    if task == "pose":
        image = golden_image(file.info, 0)
        result = compare_candidates(open_backend(half, CPU).run(image), open_backend(file, CPU).run(image), "half")
        assert result.people == 2
        assert result.least_oks > 0.98
    else:
        crops = golden_crops(file.info)
        difference = np.abs(open_refiner_backend(half, CPU).run(crops) - open_refiner_backend(file, CPU).run(crops))
        assert np.median(difference[..., :2]) < 0.25
    pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    answer = CliRunner().invoke(cli, ["tensorrt", str(path), "--json"], standalone_mode=False)
    assert answer.exception is None
    report = json.loads(answer.stdout)
    assert {entry["precision"] for entry in report["convolutions"]} <= {"Half", "Float"}
    assert sum(entry["precision"] == "Half" for entry in report["convolutions"]) >= len(report["convolutions"]) - 1


def test_an_export_of_ultralytics_with_the_q_and_dq_of_another_tool_is_built_in_int8(tmp_path: Path) -> None:
    """The layout (1, 56, anchors), quantized as TensorRT demands it by ONNX Runtime's own tool; test_strangers.py has ours."""
    pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    source, int8, half = (tmp_path / f"{name}.onnx" for name in ("yolo", "int8", "half"))
    write_yolo_network(source)
    rules = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "OpTypesToExcludeOutputQuantization": ["Conv"]}
    kinds = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8, "op_types_to_quantize": ["Conv"]}
    quantize_static(
        str(source), str(int8), _Noise(), per_channel=True, extra_options=rules, nodes_to_exclude=["/model.0/conv/Conv"], **kinds
    )
    model = onnx.load(str(int8))
    set_metadata(model, {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props})
    assert tensorrt_objections(model) == []
    write_model(to_half(model), half)
    file = read_model(half)
    assert (file.info.layout, file.info.input_height) == ("ultralytics", 96)
    found = engine_layers(load_library(), half)
    assert [entry.node for entry in found.convolutions if entry.precision != "Int8"] == ["/model.0/conv/Conv"]
    assert len(found.convolutions) == 13
    assert 0 < found.float_share() <= 0.15
    report = CliRunner().invoke(cli, ["tensorrt", str(half), "--json"], standalone_mode=False)
    assert report.exception is None
    assert json.loads(report.stdout)["float_share"] == round(found.float_share(), 4)
    images = np.random.default_rng(1).integers(0, 256, (1, 96, 96, 3), np.uint8)
    assert open_backend(file, CPU).run(images).scores.shape[0] == 1  # the same file runs here


class _Noise(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self._images = iter([{"images": draw.uniform(0, 1, (1, 3, 96, 96)).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._images, None)


def test_what_is_in_half_precision_already_or_all_int8_is_refused() -> None:
    half = to_half(onnx.load_from_string(named_model("ghost-n", "pose", backend="cuda").data))
    with pytest.raises(ModelError, match="weights in half precision already"):
        to_half(half)
    nothing = onnx.ModelProto()
    nothing.CopyFrom(half)
    del nothing.graph.node[:]
    del nothing.graph.initializer[:]
    with pytest.raises(ModelError, match="no convolution that is not INT8"):
        to_half(nothing)


def test_a_layer_of_the_log_is_read_with_its_types_and_nodes() -> None:
    line = (
        "Name: conv_myl0_13, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [-1,128,32,24], Datatype: Int8, Format: (NHWC) }],"
        " Constants: [ { Name: b, Dimensions: [32,4,3,3], Datatype: Int8 }, { Name: c, Datatype: Float }], Outputs: [ { Name: d,"
        " Dimensions: [-1,32,16,12], Datatype: Half }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: /conv/Conv][ONNX Layer: /Relu]"
    )
    (layer,) = parse_layers(["Layers:", line])
    assert (layer.name, layer.kind, layer.inputs, layer.outputs) == ("conv_myl0_13", "correlation", ("Int8",), ("Half",))
    assert (layer.constants, layer.nodes) == (("Int8", "Float"), ("/conv/Conv", "/Relu"))
