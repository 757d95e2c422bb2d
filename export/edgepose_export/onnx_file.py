"""ONNX model files: written whole, simplified, and with their metadata; needs no torch."""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from edgepose.errors import OutputError

_SMALL = 64
"""Smaller tensors stay in single precision: biases, factors and constants weigh nothing."""


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return plain ONNX with constants folded (by ONNX Runtime's basic rules) and padding nodes folded into convolutions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simple.onnx"
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        simple = onnx.load(str(path))
    for imported in [entry for entry in simple.opset_import if entry.domain not in ("", "ai.onnx")]:
        simple.opset_import.remove(imported)
    del simple.metadata_props[:]
    _fold_padding(simple.graph)
    return simple


def _fold_padding(graph: onnx.GraphProto) -> None:
    """Fold each `Pad` node into the convolutions that read it: as a node it would cost a copy of the map.

    Convolutions pad with zeros, so a `Pad` of another value or mode (`reflect`, `edge`) stays.
    """
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for pad in [node for node in graph.node if node.op_type == "Pad" and node.input[1] in values and _pads_with_zeros(node, values)]:
        amounts = values[pad.input[1]]  # (2 x rank,): begins, then ends
        readers = [node for node in graph.node if pad.output[0] in node.input]
        if any(node.op_type != "Conv" for node in readers) or len(amounts) != 8 or amounts[[0, 1, 4, 5]].any():
            continue
        for conv in readers:
            attribute = next(entry for entry in conv.attribute if entry.name == "pads")
            attribute.ints[:] = [own + int(extra) for own, extra in zip(attribute.ints, amounts[[2, 3, 6, 7]], strict=True)]
            conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    drop_unused_constants(graph)


def _pads_with_zeros(pad: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> bool:
    mode = next((entry.s for entry in pad.attribute if entry.name == "mode"), b"constant")
    filling = pad.input[2] if len(pad.input) > 2 else ""
    return mode == b"constant" and (not filling or (filling in values and not values[filling].any()))


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose large weights are stored in half precision behind casts; inference libraries undo this when they load it.

    The results change by rounding of the weights only, and the file has about half the size.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    casts = []
    for tensor in smaller.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or numpy_helper.to_array(tensor).size < _SMALL:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + "_half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=name + "_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *smaller.graph.node]
    del smaller.graph.node[:]
    smaller.graph.node.extend(nodes)
    return smaller


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model file atomically: an existing file is replaced only by a complete one.

    Raises:
        OutputError: the file cannot be written.
    """
    temporary = path.with_suffix(path.suffix + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(model.SerializeToString(deterministic=True))
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def get_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Return the model's `metadata_props`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def set_metadata(model: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Set some `metadata_props` and keep the others; sorted, so that equal models are equal files."""
    helper.set_model_props(model, dict(sorted({**get_metadata(model), **values}.items())))


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hex, which a derived file names as its parent."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
