"""Checks a file against TensorRT's rules of explicit quantization, because its parser accepts some graphs that it computes wrongly."""

import onnx
from onnx import TensorProto

from edgepose_export.quantization.graph import ACTIVATIONS, Graph

_TYPES = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8", TensorProto.INT32: "int32"}


def tensorrt_objections(model: onnx.ModelProto) -> list[str]:
    """Return the reasons why TensorRT would refuse a quantized model or clip its values, one sentence each.

    Zero points must be int8 zeros: TensorRT parses uint8 zeros silently and builds them as int8, which clips the upper half of the
    range. Biases must be float, and nothing may stand between a convolution and its activation.
    """
    graph = Graph(model)
    found = []
    for node in graph.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None:
            found.append(f"{node.name} has no constant zero point; expected int8 zeros")
        elif zero.data_type != TensorProto.INT8:
            found.append(f"{node.name} has zero points of {_TYPES.get(zero.data_type, 'another type')}; expected int8")
        elif onnx.numpy_helper.to_array(zero).any():
            found.append(f"{node.name} has a zero point other than 0")
        maker = graph.producer.get(node.input[0])
        if node.op_type == "QuantizeLinear" and maker is not None and maker.op_type == "Conv":
            readers = [
                reader for output in node.output for dq in graph.readers.get(output, []) for reader in graph.readers.get(dq.output[0], [])
            ]
            kinds = sorted(reader.op_type for reader in readers)
            if kinds == ["Mul", "Sigmoid"] or (len(kinds) == 1 and kinds[0] in ACTIVATIONS):
                found.append(f"{node.name} stands between a convolution and its {'SiLU' if len(kinds) == 2 else kinds[0]}")
    return found
