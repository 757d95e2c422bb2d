"""Post-training quantization of a model file: from float to INT8, calibrated on pictures."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from edgepose.errors import ModelError
from edgepose.model.file import METADATA_PREFIX, ModelInfo, read_model
from edgepose_export.callbacks import Progress, TaskProgress
from edgepose_export.onnx_file import file_hash, set_metadata
from edgepose_export.quantization.calibration import CalibrationSet, collect_statistics
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.equalization import equalize
from edgepose_export.quantization.graph import (
    FLOAT_CONVOLUTIONS,
    Graph,
    QuantizationPlan,
    float_convolutions,
    lies_in,
    make_plan,
    place,
)
from edgepose_export.quantization.head import last_convolutions, with_network_names
from edgepose_export.quantization.islands import FLOAT_PLACES, TENSORRT_FLOAT_PLACES
from edgepose_export.quantization.pixels import center_on_a_byte, read_bytes_directly
from edgepose_export.quantization.qdq import Range, insert
from edgepose_export.quantization.ranges import Method, choose_range
from edgepose_export.quantization.repairs import correct_biases, in_steps, patch_moments, rounded_weights, weighted

Target = Literal["cpu", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)

Repair = Literal["equalization", "bias", "rounding"]
"""What is done against the loss of INT8 before it is measured: `equalization` of channels, corrected biases, adaptive rounding."""

REPAIRS: tuple[Repair, ...] = get_args(Repair)
DEFAULT_REPAIRS: tuple[Repair, ...] = ("equalization",)

DEFAULT_METHOD: Method = "percentile"


@dataclass(frozen=True)
class CalibratedModel:
    """A float model with what the calibration pictures say of it: INT8 files with any parts in float are made from it at once.

    Attributes:
        source: file of the model.
        info: its description.
        target: backend that is to run it.
        model: float model whose nodes name their parts of the network, equalized.
        ranges: lowest and highest value of each tensor that may be quantized.
        calibration: for the metadata.
        integers: weights that are not rounded to the nearest, by their names.
    """

    source: Path
    info: ModelInfo
    target: Target
    model: onnx.ModelProto
    ranges: Mapping[str, Range]
    calibration: Mapping[str, Any]
    integers: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    def plan(self, float_places: Sequence[str]) -> QuantizationPlan:
        """Return the plan of INT8 with some parts in float."""
        return make_plan(self.model, float_places, integer_silu=has_integer_silu(self.info, self.target))

    def quantized(self, float_places: Sequence[str]) -> onnx.ModelProto:
        """Return the INT8 model with some parts in float; ModelError where the target would refuse it, or nothing is left in INT8."""
        plan = self.plan(float_places)
        if not plan.convolutions:
            raise ModelError(_nothing_left(self.source, float_places))
        result = insert(self.model, plan, self.ranges, symmetric=self.target == "tensorrt", integers=self.integers)
        first = Graph(self.model).convolutions()[0]
        if self.info.layout == "edgepose" and self.target == "cpu" and first.name in plan.convolutions:
            read_bytes_directly(result, first.input[0])
        if self.target == "tensorrt" and (objections := tensorrt_objections(result)):
            raise ModelError(f"TensorRT would refuse the quantized {self.source}: {objections[0]}")
        values = {
            FLOAT_CONVOLUTIONS: json.dumps(float_convolutions(result)),
            "precision": "int8",
            "calibration": json.dumps(self.calibration),
            "parent": file_hash(self.source),
            "accuracy": "{}",
        }
        set_metadata(result, {METADATA_PREFIX + key: value for key, value in values.items()})
        onnx.checker.check_model(result, full_check=True)
        return result


def quantize(
    source: Path,
    pictures: CalibrationSet,
    *,
    method: Method = DEFAULT_METHOD,
    target: Target = "cpu",
    float_places: Sequence[str] | None = None,
    repairs: Collection[Repair] = DEFAULT_REPAIRS,
    progress: TaskProgress = lambda task, done, total: None,
) -> onnx.ModelProto:
    """Quantize a float model file.

    Args:
        source: float model file, as `edgepose-export onnx` or Ultralytics' exporter writes it.
        pictures: calibration pictures.
        method: how to choose the ranges of activations.
        target: `cpu` makes uint8 activations with zero points, which are fast on x86 and ARM; `tensorrt` makes int8 ones with
            zero point 0, the only ones that TensorRT accepts.
        float_places: modules that stay float, such as `trunk.stem` or `head.levels.*.score`; None is the best choice for the network
            (`default_places`).
        repairs: what is done against the loss of precision.
        progress: called after each picture of each task.

    Raises:
        ModelError: the file is not a float model of a pose network or a refiner.
        ConfigError: the pictures are refused.
    """
    if float_places is None:
        float_places = default_places(source, target)
    made = calibrate(source, pictures, method=method, target=target, float_places=float_places, repairs=repairs, progress=progress)
    return made.quantized(float_places)


def calibrate(
    source: Path,
    pictures: CalibrationSet,
    *,
    method: Method = DEFAULT_METHOD,
    target: Target = "cpu",
    float_places: Sequence[str] = (),
    repairs: Collection[Repair] = DEFAULT_REPAIRS,
    progress: TaskProgress = lambda task, done, total: None,
) -> CalibratedModel:
    """Measure a float model on the calibration pictures; arguments and errors as of `quantize`, which `float_places` saves time."""
    info = read_model(source).info
    symmetric = target == "tensorrt"
    model = load_float(source)
    if not make_plan(model, float_places).convolutions:
        raise ModelError(_nothing_left(source, float_places))

    def report(task: str) -> Progress:
        return lambda done, total: progress(task, done, total)

    total = len(pictures)
    if "equalization" in repairs:
        model = equalize(model, lambda: pictures.inputs(info), report("channels"), total)
    ranges: dict[str, Range] = {}
    if info.layout == "ultralytics":
        ranges[model.graph.input[0].name] = (0.0, 1.0)  # a byte is a step
    elif not symmetric and not lies_in(Graph(model).convolutions()[0], float_places):
        model, pixels, ranges[pixels] = center_on_a_byte(model)
    plan, graph = make_plan(model, float_places, integer_silu=has_integer_silu(info, target)), Graph(model)
    ranges |= {name: (0.0, 1.0) for name in plan.tensors if name in graph.producer and graph.producer[name].op_type == "Sigmoid"}
    tensors = [name for name in plan.tensors if name not in ranges]
    statistics = collect_statistics(model, tensors, lambda: pictures.inputs(info), report("ranges"), total)
    ranges |= {name: choose_range(statistics[name], method, symmetric=symmetric) for name in tensors}
    calibration = {"hash": pictures.hash(), "method": method, "images": total}
    integers: dict[str, NDArray[np.int8]] = {}
    if "rounding" in repairs or "bias" in repairs:
        chosen = [node for node in graph.convolutions() if node.name in plan.convolutions]
        moments = patch_moments(model, chosen, lambda: pictures.inputs(info), report("weights"), total)
        integers = rounded_weights(model, moments, adaptively="rounding" in repairs)
        if "bias" in repairs:
            become = {node.input[1]: in_steps(weight, integers[node.input[1]]) for node, weight in weighted(graph, moments)}
            model = correct_biases(model, moments, become)
    return CalibratedModel(source, info, target, model, ranges, calibration, integers)


def read_float(source: Path) -> onnx.ModelProto:
    """Read a float model file as it is; ModelError where it is none."""
    info = read_model(source).info
    if info.precision != "float32":
        raise ModelError(f"{source} is {info.precision} of layout '{info.layout}'; expected a float32 file")
    try:
        return onnx.load(str(source))
    except DecodeError as error:
        raise ModelError(f"{source} is not an ONNX file: {error}") from error


def load_float(source: Path) -> onnx.ModelProto:
    """Read a float model file whose nodes name their parts of the network; ModelError where it is none."""
    model = read_float(source)
    if read_model(source).info.layout == "edgepose":
        return model
    try:
        return with_network_names(model)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error.__cause__


def default_places(source: Path, target: Target) -> tuple[str, ...]:
    """Return the parts that stay float unless somebody chooses: measured for our networks, the raw maps of others."""
    info = read_model(source).info
    if info.layout == "edgepose":
        return (TENSORRT_FLOAT_PLACES if target == "tensorrt" else FLOAT_PLACES)[info.task]
    graph = Graph(load_float(source))
    last = tuple(place(node) for node in last_convolutions(graph))
    # 255 steps of a byte become 127 with zero point 0.
    return (place(graph.convolutions()[0]), *last) if target == "tensorrt" else last


def has_integer_silu(info: ModelInfo, target: Target) -> bool:
    """Return whether SiLUs are INT8 too: where most convolutions are, and ONNX Runtime runs the file."""
    return info.layout == "ultralytics" and target == "cpu"


def _nothing_left(source: Path, float_places: Sequence[str]) -> str:
    where = f"outside of {', '.join(float_places)}" if float_places else "with constant weights"
    return f"{source} has no convolution {where}; expected at least one to quantize"
