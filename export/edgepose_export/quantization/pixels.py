"""Makes the picture's own bytes the INT8 input of the first convolution.

The network computes u - mean from a byte u, with another mean for each color; a refiner scales it, too. With u - z for one byte z, each
byte is one step of INT8 and needs no computation; the weights and the bias of the first convolution compensate for the difference.
(Beyond the picture's border the convolution then sees z instead of the mean of each color.)
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgepose_export.onnx_file import drop_unused_constants
from edgepose_export.quantization.graph import Graph
from edgepose_export.quantization.qdq import Range


def center_on_a_byte(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str, Range]:
    """Return a copy of a float model whose first convolution reads u - z, the name of that tensor and its range.

    Raises:
        ValueError: the first convolution does not read pixels from which a mean is subtracted and which may then be scaled.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    first = graph.convolutions()[0]
    scale: onnx.NodeProto | None = graph.producer[first.input[0]]
    assert scale is not None
    shift = graph.producer.get(scale.input[0]) if scale.op_type in ("Mul", "Div") else scale
    if shift is scale:
        scale = None
    steps = [node for node in (shift, scale) if node is not None]
    if (
        shift is None
        or shift.op_type != "Sub"
        or not {node.input[1] for node in steps} <= graph.constants.keys()
        or any(len(graph.readers[node.output[0]]) != 1 for node in steps)
    ):
        read = graph.producer[first.input[0]].op_type
        raise ValueError(f"the first convolution reads {read}; expected pixels that are normalized by Sub, and perhaps Mul or Div")
    mean = _constant(graph, shift)
    factor = np.ones(1) if scale is None else _constant(graph, scale)
    if scale is not None and scale.op_type == "Div":
        factor = 1 / factor
    weight = numpy_helper.to_array(graph.constants[first.input[1]]) * np.broadcast_to(factor.reshape(-1, 1, 1), (3, 1, 1))
    zero = round(float(mean.mean()))
    moved = (weight.sum((2, 3)) * (zero - np.broadcast_to(mean.ravel(), 3))).sum(1)
    bias = numpy_helper.to_array(graph.constants[first.input[2]]) + moved
    _replace(result, shift, 1, np.array(zero, np.float32))
    _replace(result, first, 1, weight.astype(np.float32))
    _replace(result, first, 2, bias.astype(np.float32))
    first.input[0] = shift.output[0]
    if scale is not None:
        result.graph.node.remove(scale)
    drop_unused_constants(result.graph)
    return result, shift.output[0], (-float(zero), 255.0 - zero)


def read_bytes_directly(model: onnx.ModelProto, pixels: str) -> None:
    """Feed the input's bytes to a uint8 model directly: centering and quantizing them would give the same bytes.

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


def _constant(graph: Graph, node: onnx.NodeProto) -> NDArray[np.float64]:
    value: NDArray[np.float64] = numpy_helper.to_array(graph.constants[node.input[1]]).astype(np.float64)
    return value


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, index: int, value: np.ndarray) -> None:
    name = f"{node.input[index]}_centered"
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[index] = name
