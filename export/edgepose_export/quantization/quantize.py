"""Post-training quantization of a model file: from float to INT8 by what calibration pictures show."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import onnx

from edgepose.errors import ModelError
from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose_export.onnx_file import file_hash, set_metadata
from edgepose_export.quantization.calibration import CalibrationSet, collect_statistics
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.equalization import equalize
from edgepose_export.quantization.graph import Graph, make_plan
from edgepose_export.quantization.pixels import PIXEL_RANGE, center_on_a_byte, read_bytes_directly
from edgepose_export.quantization.qdq import Range, insert
from edgepose_export.quantization.ranges import Method, choose_range

Target = Literal["cpu", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)

DEFAULT_METHOD: Method = "percentile"

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, of how much."""


def quantize(
    source: Path,
    pictures: CalibrationSet,
    *,
    method: Method = DEFAULT_METHOD,
    target: Target = "cpu",
    float_places: Sequence[str] = (),
    progress: Progress = lambda what, done, total: None,
) -> onnx.ModelProto:
    """Quantize a float model file.

    Args:
        source: float model file, as `edgepose-export onnx` writes it.
        pictures: what it is calibrated on.
        method: how ranges of activations are chosen.
        target: `cpu` has uint8 activations with zero points, which x86 and ARM are fast with; `tensorrt` has int8 ones with
            zero point 0, the only ones that TensorRT takes.
        float_places: parts that stay float, such as `backbone.stem` or `head.*.out`.
        progress: told after each picture.

    Raises:
        ModelError: the file is not a float model of edgepose.
        ConfigError: pictures are not as they should be.
    """
    symmetric = target == "tensorrt"
    prepared, ranges = prepare(source, pictures, method=method, symmetric=symmetric, progress=progress)
    plan = make_plan(prepared, float_places)
    if not plan.convolutions:
        raise ModelError(f"nothing of {source} would be in INT8: every convolution lies in {', '.join(float_places)}")
    result = insert(prepared, plan, ranges, symmetric=symmetric)
    pixels = Graph(prepared).convolutions()[0].input[0]
    if target == "cpu" and pixels in plan.tensors:
        read_bytes_directly(result, pixels)
    if symmetric and (objections := tensorrt_objections(result)):
        raise ModelError(f"TensorRT would refuse the quantized {source}: {objections[0]}")
    calibration = {"hash": pictures.hash(), "method": method, "images": len(pictures)}
    values = {"precision": "int8", "calibration": json.dumps(calibration), "parent": file_hash(source), "accuracy": "{}"}
    set_metadata(result, {METADATA_PREFIX + key: value for key, value in values.items()})
    onnx.checker.check_model(result, full_check=True)
    return result


def prepare(
    source: Path, pictures: CalibrationSet, *, method: Method, symmetric: bool, progress: Progress = lambda what, done, total: None
) -> tuple[onnx.ModelProto, dict[str, Range]]:
    """The equalized float model and the range of each tensor that could be quantized; arguments and errors as of `quantize`."""
    info = read_model(source).info
    if info.layout != "edgepose" or info.precision != "float32":
        raise ModelError(f"{source} is {info.precision} of layout '{info.layout}', accepted is a float32 file of `edgepose-export onnx`")
    model = onnx.load(str(source))
    if not Graph(model).convolutions():
        raise ModelError(f"{source} has no convolution with constant weights, there is nothing to quantize")

    def told(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(what, done, total)

    total = len(pictures)
    even = equalize(model, lambda: pictures.images(info), told("channels"), total)
    centered, pixels = center_on_a_byte(even)
    tensors = make_plan(centered).tensors
    statistics = collect_statistics(centered, tensors, lambda: pictures.images(info), told("ranges"), total)
    ranges = {name: choose_range(statistics[name], method, symmetric=symmetric) for name in tensors}
    ranges[pixels] = PIXEL_RANGE
    return centered, ranges
