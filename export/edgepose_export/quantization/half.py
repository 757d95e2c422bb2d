"""Half precision for the part of a network that is not INT8: casts in the graph, because TensorRT takes its types from there.

Convolutions without Q/DQ, and what only they feed, compute in float16. INT8 convolutions and their Q/DQ stay. What comes after the
last convolution, positions in pixels, stays float32, since float16 has no half pixel above 1024.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgepose.errors import ModelError
from edgepose.model.file import METADATA_PREFIX
from edgepose_export.onnx_file import drop_unused_constants, get_metadata, set_metadata
from edgepose_export.quantization.graph import Graph, float_convolutions

_LARGEST = float(np.finfo(np.float16).max)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_FLOAT_INPUTS = {"Resize": (1, 2)}  # inputs that stay float32 whatever the type of the first: regions and factors


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose convolutions that are not INT8 compute in float16, between casts to it and back.

    Args:
        model: float or with Q/DQ, weights stored in float32 or as INT8.

    Raises:
        ModelError: there is no convolution, the model is in half precision already, or a weight is too large for float16.
    """
    model = with_full_weights(model)
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise ModelError("the model has weights in half precision already; expected a file of float32 or INT8 weights")
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    }
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    inside = _network(model)
    if not inside:
        raise ModelError("the model has no convolution that is not INT8; expected one to compute in half precision")
    _convert(model, inside, kinds)
    drop_unused_constants(model.graph)
    if get_metadata(model).get(f"{METADATA_PREFIX}precision") == "float32":
        set_metadata(model, {f"{METADATA_PREFIX}precision": "float16"})
    onnx.checker.check_model(model, full_check=True)
    return model


def with_full_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with weights that are stored in half precision behind casts as plain float32 weights."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in [node for node in copy.graph.node if node.op_type == "Cast" and node.input[0] in constants]:
        tensor = constants[node.input[0]]
        if tensor.data_type == TensorProto.FLOAT16 and node.attribute[0].i == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
            copy.graph.node.remove(node)
    return copy


def _network(model: onnx.ModelProto) -> set[int]:
    """Return the indices of the nodes that compute in float16: convolutions that are not INT8, and what only they feed."""
    graph = Graph(model)
    nodes = list(graph.nodes)
    index_of = {output: index for index, node in enumerate(nodes) for output in node.output}
    # Our own graphs have convolutions after the network, which compare candidates: those stay.
    of_network = [node for node in nodes if node.op_type == "Conv" and node.name.lstrip("/").startswith("network")]
    convolutions = {node.name for node in of_network or [node for node in nodes if node.op_type == "Conv"]}
    in_float = convolutions & set(float_convolutions(model))
    before = {index for index, node in enumerate(nodes) if node.op_type == "Conv" and node.name in convolutions}
    readers: dict[int, set[int]] = {}
    for index, node in enumerate(nodes):
        for name in node.input:
            if name in index_of:
                readers.setdefault(index_of[name], set()).add(index)
    for index in reversed(range(len(nodes))):
        if readers.get(index, set()) & before:
            before.add(index)
    half: set[int] = set()
    for index, node in enumerate(nodes):  # in the order of computation
        makers = {index_of[name] for name in node.input if name in index_of}
        follows = bool(makers) and makers <= half and index in before and node.op_type not in ("Conv", *_QUANTIZERS)
        if follows or (node.op_type == "Conv" and node.name in in_float):
            half.add(index)
    return half


def _convert(model: onnx.ModelProto, inside: set[int], kinds: dict[str, int]) -> None:
    """Make the nodes of the network compute in float16, with casts where tensors enter and leave it."""
    graph = Graph(model)
    nodes = list(graph.nodes)
    made_inside = {output for index in inside for output in nodes[index].output}
    halves: dict[str, str] = {}
    result: list[onnx.NodeProto] = []
    outputs = {value.name for value in model.graph.output}
    for index, node in enumerate(nodes):
        if index not in inside:
            result.append(node)
            continue
        for position, name in enumerate(node.input):
            if kinds.get(name) != TensorProto.FLOAT or position in _FLOAT_INPUTS.get(node.op_type, ()):
                continue
            if name in graph.constants:
                node.input[position] = _half_constant(model, name, halves)
            elif name not in made_inside:
                if name not in halves:
                    halves[name] = f"{name}_half"
                    result.append(helper.make_node("Cast", [name], [halves[name]], name=f"{name}_to_half", to=TensorProto.FLOAT16))
                node.input[position] = halves[name]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(_as_half(numpy_helper.to_array(attribute.t), node.name)))
        result.append(node)
        for position, output in enumerate(node.output):
            outside = [reader for reader in graph.readers.get(output, []) if nodes.index(reader) not in inside]
            if kinds.get(output) == TensorProto.FLOAT and (outside or output in outputs):
                inner = f"{output}_half_out"
                node.output[position] = inner
                for reader in graph.readers.get(output, []):
                    if reader not in outside:
                        reader.input[:] = [inner if name == output else name for name in reader.input]
                result.append(helper.make_node("Cast", [inner], [output], name=f"{output}_to_float", to=TensorProto.FLOAT))
                made_inside.add(inner)
    del model.graph.node[:]
    model.graph.node.extend(result)
    del model.graph.value_info[:]


def _half_constant(model: onnx.ModelProto, name: str, halves: dict[str, str]) -> str:
    if name not in halves:
        halves[name] = f"{name}_half"
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        model.graph.initializer.append(numpy_helper.from_array(_as_half(numpy_helper.to_array(tensor), name), halves[name]))
    return halves[name]


def _as_half(values: np.ndarray, name: str) -> np.ndarray:
    if np.abs(values).max(initial=0.0) > _LARGEST:
        raise ModelError(f"{name} has values up to {np.abs(values).max():.3g}; expected at most {_LARGEST:.0f} for half precision")
    return values.astype(np.float16)
