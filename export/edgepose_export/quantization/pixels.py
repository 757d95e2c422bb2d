"""Makes the picture's own bytes the INT8 input of the first convolution.

The network computes scale u + offset from a byte u, with numbers of their own for each color: quantization would round every pixel by
up to half a step. With (u - 127) / 127.5 each byte is one step, and the first convolution's weights and bias compensate for the
difference. (Its padding then means the byte 127 instead of the mean color, which is at most 23 below.)
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgepose_export.onnx_file import drop_unused_constants
from edgepose_export.quantization.graph import Graph
from edgepose_export.quantization.qdq import Range

ZERO_BYTE = 127
"""The byte that means 0 after `center_on_a_byte`."""

_HALF_RANGE = 127.5
PIXEL_RANGE: Range = (-ZERO_BYTE / _HALF_RANGE, (255 - ZERO_BYTE) / _HALF_RANGE)
"""Range of the shifted pixels: one uint8 step per byte; int8 with zero point 0 clips white by one step."""


def center_on_a_byte(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return a copy of a float model whose pixels are centered on byte 127, and the name of the tensor that holds them."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    first = graph.convolutions()[0]
    pixels = first.input[0]
    steps = _normalization(graph, pixels)
    if not steps or len(graph.readers[pixels]) != 1:
        raise ValueError(f"the first convolution reads {graph.producer[pixels].op_type}; expected the operations that normalize pixels")
    weight = numpy_helper.to_array(graph.constants[first.input[1]])
    bias = numpy_helper.to_array(graph.constants[first.input[2]])
    scale, offset = np.ones(weight.shape[1]), np.zeros(weight.shape[1])
    for _, kind, constant in steps:
        value = constant.astype(np.float64).reshape(-1)
        if kind in ("Sub", "Add"):
            offset = offset + (value if kind == "Add" else -value)
        else:
            factor = value if kind == "Mul" else 1 / value
            scale, offset = scale * factor, offset * factor
    at_zero = scale * ZERO_BYTE + offset
    _replace(result, first, 2, (bias + (weight.sum((2, 3)) * at_zero).sum(1)).astype(np.float32))
    _replace(result, first, 1, (weight * (scale * _HALF_RANGE)[:, None, None]).astype(np.float32))
    data = next(name for name in steps[0][0].input if name not in graph.constants)
    place = list(result.graph.node).index(steps[0][0])
    for node, _, _ in steps:
        result.graph.node.remove(node)
    for name, number in (("pixels_half_range", _HALF_RANGE), ("pixels_zero", ZERO_BYTE / _HALF_RANGE)):
        result.graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), name))
    result.graph.node.insert(place, helper.make_node("Div", [data, "pixels_half_range"], ["pixels_scaled"], "pixels_Div"))
    result.graph.node.insert(place + 1, helper.make_node("Sub", ["pixels_scaled", "pixels_zero"], [pixels], "pixels_Sub"))
    drop_unused_constants(result.graph)
    return result, pixels


def _normalization(graph: Graph, pixels: str) -> list[tuple[onnx.NodeProto, str, NDArray[np.float32]]]:
    """Return the additions and multiplications by constants that make `pixels`, in their order: node, kind, constant."""
    steps: list[tuple[onnx.NodeProto, str, NDArray[np.float32]]] = []
    while (node := graph.producer.get(pixels)) is not None and node.op_type in ("Sub", "Add", "Mul", "Div"):
        constants = [name for name in node.input if name in graph.constants]
        if len(constants) != 1 or (node.op_type in ("Sub", "Div") and node.input[1] != constants[0]):
            break
        steps.insert(0, (node, node.op_type, numpy_helper.to_array(graph.constants[constants[0]])))
        pixels = next(name for name in node.input if name not in graph.constants)
    return steps


def read_bytes_directly(model: onnx.ModelProto, pixels: str) -> None:
    """Feed the input's bytes to a uint8 model directly: normalizing and quantizing them would give the same bytes.

    For ONNX Runtime only, because TensorRT cannot transpose uint8.
    """
    graph = Graph(model)
    quantize = next(node for node in graph.readers[pixels] if node.op_type == "QuantizeLinear")
    node = graph.producer[pixels]
    removed = [quantize]
    while True:
        removed.append(node)
        if node.input[0] not in graph.producer:  # the input itself
            break
        node = graph.producer[node.input[0]]
    transpose = helper.make_node("Transpose", [node.input[0]], [quantize.output[0]], "pixels_Transpose", perm=[0, 3, 1, 2])
    for node in removed:
        model.graph.node.remove(node)
    model.graph.node.insert(0, transpose)
    drop_unused_constants(model.graph)


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, index: int, value: np.ndarray) -> None:
    name = f"{node.input[index]}_centered"
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[index] = name
