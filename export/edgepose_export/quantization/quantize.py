"""Post-training quantization of a model file: from float to INT8, calibrated on pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import onnx

from edgepose.errors import ModelError
from edgepose.model.file import METADATA_PREFIX, read_model
from edgepose_export.callbacks import Progress, TaskProgress
from edgepose_export.onnx_file import file_hash, set_metadata
from edgepose_export.quantization.calibration import CalibrationSet, collect_statistics
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.equalization import equalize
from edgepose_export.quantization.graph import FLOAT_CONVOLUTIONS, Graph, float_convolutions, lies_in, make_plan
from edgepose_export.quantization.islands import FLOAT_PLACES, TENSORRT_FLOAT_PLACES
from edgepose_export.quantization.pixels import center_on_a_byte, read_bytes_directly
from edgepose_export.quantization.qdq import Range, insert
from edgepose_export.quantization.ranges import Method, choose_range

Target = Literal["cpu", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)

DEFAULT_METHOD: Method = "percentile"


def quantize(
    source: Path,
    pictures: CalibrationSet,
    *,
    method: Method = DEFAULT_METHOD,
    target: Target = "cpu",
    float_places: Sequence[str] | None = None,
    progress: TaskProgress = lambda task, done, total: None,
) -> onnx.ModelProto:
    """Quantize a float model file.

    Args:
        source: float model file, as `edgepose-export onnx` writes it.
        pictures: calibration pictures.
        method: how to choose the ranges of activations.
        target: `cpu` makes uint8 activations with zero points, which are fast on x86 and ARM; `tensorrt` makes int8 ones with
            zero point 0, the only ones that TensorRT accepts.
        float_places: modules that stay float, such as `trunk.stem` or `head.levels.*.score`; None is the best choice for the network's
            task (`islands`).
        progress: called after each picture of each task.

    Raises:
        ModelError: the file is not a float model of edgepose.
        ConfigError: the pictures are refused.
    """
    symmetric = target == "tensorrt"
    if float_places is None:
        float_places = (TENSORRT_FLOAT_PLACES if symmetric else FLOAT_PLACES)[read_model(source).info.task]
    prepared, ranges = prepare(source, pictures, method=method, symmetric=symmetric, float_places=float_places, progress=progress)
    plan = make_plan(prepared, float_places)
    result = insert(prepared, plan, ranges, symmetric=symmetric)
    first = Graph(prepared).convolutions()[0]
    if not symmetric and first.name in plan.convolutions:
        read_bytes_directly(result, first.input[0])
    if symmetric and (objections := tensorrt_objections(result)):
        raise ModelError(f"TensorRT would refuse the quantized {source}: {objections[0]}")
    calibration = {"hash": pictures.hash(), "method": method, "images": len(pictures)}
    listed = json.dumps(float_convolutions(result))
    values = {
        FLOAT_CONVOLUTIONS: listed,
        "precision": "int8",
        "calibration": json.dumps(calibration),
        "parent": file_hash(source),
        "accuracy": "{}",
    }
    set_metadata(result, {METADATA_PREFIX + key: value for key, value in values.items()})
    onnx.checker.check_model(result, full_check=True)
    return result


def prepare(
    source: Path,
    pictures: CalibrationSet,
    *,
    method: Method,
    symmetric: bool,
    float_places: Sequence[str] = (),
    progress: TaskProgress = lambda task, done, total: None,
) -> tuple[onnx.ModelProto, dict[str, Range]]:
    """Return the equalized float model and the range of each tensor that could be quantized; arguments and errors as of `quantize`."""
    info = read_model(source).info
    if info.layout != "edgepose" or info.precision != "float32":
        raise ModelError(f"{source} is {info.precision} of layout '{info.layout}'; expected a float32 file of `edgepose-export onnx`")
    model = onnx.load(str(source))
    if not make_plan(model, float_places).convolutions:
        where = f"outside of {', '.join(float_places)}" if float_places else "with constant weights"
        raise ModelError(f"{source} has no convolution {where}; expected at least one to quantize")

    def report(task: str) -> Progress:
        return lambda done, total: progress(task, done, total)

    total = len(pictures)
    even = equalize(model, lambda: pictures.images(info), report("channels"), total)
    known: dict[str, Range] = {}
    if not symmetric and not lies_in(Graph(even).convolutions()[0], float_places):
        even, pixels, known[pixels] = center_on_a_byte(even)
    tensors = make_plan(even, float_places).tensors
    statistics = collect_statistics(even, tensors, lambda: pictures.images(info), report("ranges"), total)
    ranges = {name: choose_range(statistics[name], method, symmetric=symmetric) for name in tensors}
    return even, ranges | known
