"""Makes the picture's own bytes the INT8 input of the first convolution.

The network computes u / 127.5 - 1 from a byte u, which puts 0 halfway between two bytes: quantization would round every pixel by
half a step. With (u - 127) / 127.5 each byte is one step, and the bias of the first convolution compensates for the difference.
(Padding beyond the picture's right and lower border then means 1/255 more light.)
"""

import numpy as np
import onnx
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
    shift = graph.producer[first.input[0]]
    if shift.op_type != "Sub" or shift.input[1] not in graph.constants or len(graph.readers[first.input[0]]) != 1:
        raise ValueError(f"the first convolution reads {shift.op_type}; expected the subtraction that normalizes pixels")
    moved = ZERO_BYTE / _HALF_RANGE - numpy_helper.to_array(graph.constants[shift.input[1]])
    _replace(result, shift, 1, np.array(ZERO_BYTE / _HALF_RANGE, np.float32))
    weight = numpy_helper.to_array(graph.constants[first.input[1]])
    bias = numpy_helper.to_array(graph.constants[first.input[2]])
    _replace(result, first, 2, (bias + moved * weight.sum((1, 2, 3))).astype(np.float32))
    drop_unused_constants(result.graph)
    return result, first.input[0]


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
