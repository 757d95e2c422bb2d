"""The header of an ONNX file, read without loading the network and without an inference library.

An ONNX file is one protobuf message. Names, shapes and metadata are a few of its fields, and the weights are skipped by their length,
so that reading a file takes about a millisecond on a drone that has neither `onnx` nor `protobuf`.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, wire format: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_METADATA = 1, 7, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME = 8
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE, _SHAPE_DIMENSION, _DIMENSION_VALUE = 1, 2, 1, 1

ELEMENT_NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    16: "bfloat16",
}
"""Names of those TensorProto.DataType values that images and poses may have."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One input or output of the graph; `shape` has None for a dimension that the file does not fix."""

    name: str
    element: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class OnnxHeader:
    """The inputs, outputs and `metadata_props` of an ONNX file."""

    inputs: tuple[TensorHeader, ...]
    outputs: tuple[TensorHeader, ...]
    metadata: dict[str, str]


def read_header(data: bytes) -> OnnxHeader:
    """Read the header from the bytes of an ONNX file; ValueError where they are not one."""
    graph: memoryview | None = None
    has_version = False
    metadata: dict[str, str] = {}
    for field, value in _fields(memoryview(data)):
        if field == _MODEL_IR_VERSION and isinstance(value, int):
            has_version = True
        elif field == _MODEL_GRAPH:
            graph = _message(value)
        elif field == _MODEL_METADATA:
            entry = dict(_fields(_message(value)))
            metadata[_text(entry.get(_ENTRY_KEY, memoryview(b"")))] = _text(entry.get(_ENTRY_VALUE, memoryview(b"")))
    if graph is None or not has_version:
        raise ValueError("it holds no ONNX graph")
    inputs: list[TensorHeader] = []
    outputs: list[TensorHeader] = []
    initialized: set[str] = set()
    for field, value in _fields(graph):
        if field == _GRAPH_INPUT:
            inputs.append(_tensor(_message(value)))
        elif field == _GRAPH_OUTPUT:
            outputs.append(_tensor(_message(value)))
        elif field == _GRAPH_INITIALIZER:
            initialized.update(_text(name) for number, name in _fields(_message(value)) if number == _TENSOR_NAME)
    # Files of IR versions below 4 list the weights among the inputs.
    return OnnxHeader(tuple(tensor for tensor in inputs if tensor.name not in initialized), tuple(outputs), metadata)


def _tensor(value_info: memoryview) -> TensorHeader:
    name, element = "", "unknown"
    shape: list[int | None] = []
    for field, value in _fields(value_info):
        if field == _VALUE_NAME:
            name = _text(value)
        elif field == _VALUE_TYPE:
            tensor_type = dict(_fields(_message(value))).get(_TYPE_TENSOR, memoryview(b""))
            for number, part in _fields(_message(tensor_type)):
                if number == _TENSOR_TYPE_ELEMENT and isinstance(part, int):
                    element = ELEMENT_NAMES.get(part, f"type {part}")
                elif number == _TENSOR_TYPE_SHAPE:
                    for shape_field, dimension in _fields(_message(part)):
                        if shape_field == _SHAPE_DIMENSION:
                            size = dict(_fields(_message(dimension))).get(_DIMENSION_VALUE)
                            shape.append(size if isinstance(size, int) and size > 0 else None)
    return TensorHeader(name, element, tuple(shape))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) for each field of a protobuf message; ValueError where it is not one."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        field, wire_type = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("it is not a protobuf message")
        if wire_type == _VARINT:
            number, position = _varint(message, position)
            yield field, number
            continue
        if wire_type == _BYTES:
            length, position = _varint(message, position)
        elif wire_type in (_FIXED32, _FIXED64):
            length = 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError("it is not a protobuf message")
        if position + length > end:
            raise ValueError("it ends too early")
        yield field, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends too early")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("it is not a protobuf message")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it is not an ONNX message")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8")  # UnicodeDecodeError is a ValueError
