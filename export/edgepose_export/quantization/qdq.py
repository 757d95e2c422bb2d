"""Inserts explicit QuantizeLinear and DequantizeLinear nodes (Q/DQ) around the operations that compute in integers."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgepose_export.onnx_file import drop_unused_constants
from edgepose_export.quantization.graph import Graph, QuantizationPlan
from edgepose_export.quantization.ranges import scale_and_zero

Range = tuple[float, float]


def insert(
    model: onnx.ModelProto,
    plan: QuantizationPlan,
    ranges: Mapping[str, Range],
    *,
    symmetric: bool,
    integers: Mapping[str, NDArray[np.int8]] = {},
) -> onnx.ModelProto:
    """Return a copy of a float model, quantized by a plan.

    Weights are int8, symmetric, with one scale per channel. Activations are int8 with zero point 0 if symmetric (TensorRT requires
    it), else uint8 with a zero point (fast on x86). Biases stay float: TensorRT refuses int32 ones, and ONNX Runtime converts them
    itself. Nothing stands between a convolution and its ReLU. A SiLU computes in float unless the plan says otherwise: for TensorRT it
    belongs to the convolution's kernel; ONNX Runtime has INT8 convolutions only where the output is INT8, so for CPUs the SiLU's input is
    quantized too.

    Args:
        model: float model.
        plan: operations and tensors in INT8.
        ranges: lowest and highest value of each of the plan's tensors.
        symmetric: whether activations are int8 with zero point 0.
        integers: of weights that are not rounded to the nearest, by their names.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    integer = plan.convolutions | plan.joins
    made = {output for node in graph.nodes if node.name in integer for output in graph.results(node)}
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, onnx.NodeProto] = {}
    for name in plan.tensors:
        if symmetric and name in plan.before_silu:
            continue
        scale, zero = scale_and_zero(*range_of(name, plan, ranges), symmetric=symmetric)
        zero_point = np.array(zero, np.int8 if symmetric else np.uint8)
        constants = _constants(result, name, np.array(scale, np.float32), zero_point)
        nodes.append(helper.make_node("QuantizeLinear", [name, *constants], [f"{name}_quantized"], f"{name}_QuantizeLinear"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_quantized", *constants], [f"{name}_float"], f"{name}_DequantizeLinear"))
        for reader in graph.readers[name]:
            # A tensor from an integer kernel exists only quantized; one from a float kernel stays float for float readers.
            if name in made or reader.name in integer:
                _redirect(reader, name, f"{name}_float")
    for node in graph.nodes:
        if node.name in plan.convolutions:
            name = node.input[1]
            if name not in weights:  # equal weights are one constant
                weights[name] = _dequantized_weight(result, name, numpy_helper.to_array(graph.constants[name]), integers.get(name))
            node.input[1] = weights[name].output[0]
    _place(result, [*nodes, *weights.values()])
    drop_unused_constants(result.graph)
    return result


def range_of(name: str, plan: QuantizationPlan, ranges: Mapping[str, Range]) -> Range:
    """Return a tensor's range. A selection has that of its input: then ONNX Runtime selects the integers themselves."""
    while name in plan.tied:
        name = plan.tied[name]
    return ranges[name]


def quantize_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantize weights (C', C, k, k) to int8 in -127..127; return them and one scale per output channel (C',)."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    return np.clip(np.round(weight / scale[:, None, None, None]), -127, 127).astype(np.int8), scale


def _dequantized_weight(
    model: onnx.ModelProto, name: str, weight: NDArray[np.float32], integers: NDArray[np.int8] | None
) -> onnx.NodeProto:
    nearest, scale = quantize_weight(weight)
    model.graph.initializer.append(numpy_helper.from_array(nearest if integers is None else integers, f"{name}_quantized"))
    constants = _constants(model, name, scale, np.zeros(len(scale), np.int8))
    return helper.make_node("DequantizeLinear", [f"{name}_quantized", *constants], [f"{name}_float"], f"{name}_DequantizeLinear", axis=0)


def _constants(model: onnx.ModelProto, name: str, scale: NDArray[np.float32], zero: NDArray[np.generic]) -> list[str]:
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    model.graph.initializer.append(numpy_helper.from_array(zero, f"{name}_zero_point"))
    return [f"{name}_scale", f"{name}_zero_point"]


def _redirect(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new


def _place(model: onnx.ModelProto, added: list[onnx.NodeProto]) -> None:
    """Add nodes in topological order, as ONNX requires."""
    waiting = [*model.graph.node, *added]
    known = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input} | {""}
    readers: dict[str, list[int]] = {}
    missing = []
    for index, node in enumerate(waiting):
        open_inputs = {name for name in node.input if name not in known}
        missing.append(len(open_inputs))
        for name in open_inputs:
            readers.setdefault(name, []).append(index)
    ready = [index for index in range(len(waiting) - 1, -1, -1) if not missing[index]]
    ordered: list[onnx.NodeProto] = []
    while ready:
        node = waiting[ready.pop()]
        ordered.append(node)
        for name in node.output:
            for index in reversed(readers.get(name, [])):
                missing[index] -= 1
                if not missing[index]:
                    ready.append(index)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)
