"""Corrects the biases of a quantized model for what rounding does to the mean of each channel.

Rounding errors of weights and clipped activations do not cancel out over a picture: they shift the mean of a channel (Nagel et al.,
"Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2, here with measured means).
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepose_export.quantization.calibration import CalibrationImages, open_session, with_outputs
from edgepose_export.quantization.graph import Graph, QuantizationPlan
from edgepose_export.quantization.qdq import Range, quantize_weight, range_of
from edgepose_export.quantization.ranges import scale_and_zero


def correct_biases(
    model: onnx.ModelProto,
    plan: QuantizationPlan,
    ranges: Mapping[str, Range],
    images: CalibrationImages,
    *,
    symmetric: bool,
) -> onnx.ModelProto:
    """Return a copy of a float model whose biases make up for the shift that INT8 causes in each of the plan's convolutions.

    The shift is that of a convolution whose input is the float model's, rounded: W mean(x) - W' mean(x'), W' and x' being the rounded
    weights and inputs. What earlier layers do to the input is not in it; they have their own corrections.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    layers = [node for node in graph.nodes if node.name in plan.convolutions]
    means = _means(model, {node.input[0] for node in layers}, plan, ranges, images, symmetric)
    shared = {name for name in graph.readers if len(graph.readers[name]) > 1}
    for node in layers:
        if node.input[2] in shared:
            continue
        weight = numpy_helper.to_array(graph.constants[node.input[1]])
        integers, scale = quantize_weight(weight)
        rounded = integers * scale[:, None, None, None]
        before, after = means[node.input[0]]
        if weight.shape[1] == 1 and len(weight) == len(before):  # depthwise
            shift = weight.sum((1, 2, 3)) * before - rounded.sum((1, 2, 3)) * after
        else:
            shift = weight.sum((2, 3)) @ before - rounded.sum((2, 3)) @ after
        bias = numpy_helper.to_array(graph.constants[node.input[2]]) + shift
        graph.constants[node.input[2]].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))
    return result


def _means(
    model: onnx.ModelProto, names: set[str], plan: QuantizationPlan, ranges: Mapping[str, Range], images: CalibrationImages, symmetric: bool
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the mean of each channel of the tensors (B, C, H, W), before and after rounding."""
    tensors = sorted(names)
    session = open_session(with_outputs(model, tensors))
    totals = {name: (np.zeros(1), np.zeros(1)) for name in tensors}
    count = 0
    for image in images():
        count += 1
        for name, values in zip(tensors, session.run(tensors, {session.get_inputs()[0].name: image}), strict=True):
            scale, zero = scale_and_zero(*range_of(name, plan, ranges), symmetric=symmetric)
            first, last = (-128, 127) if symmetric else (0, 255)
            rounded = (np.clip(np.round(values / scale) + zero, first, last) - zero) * scale
            before, after = totals[name]
            totals[name] = before + values.mean((0, 2, 3), dtype=np.float64), after + rounded.mean((0, 2, 3), dtype=np.float64)
    return {name: (before / max(count, 1), after / max(count, 1)) for name, (before, after) in totals.items()}
