"""The header of an ONNX file, read without loading the network and without an inference library.

An ONNX file is one protobuf message. Names, shapes and metadata are a few of its fields, and the weights are skipped by their length,
so that reading a file takes few milliseconds on a drone that has neither `onnx` nor `protobuf`.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3, wire format: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator, Sequence

import msgspec

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ONE_BYTE = 0x80  # numbers below it are written as themselves

_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTION = 1, 7, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_FUNCTION_NODE = 7
_NODE_OPERATION, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_SPARSE_TENSORS = (1, 2)
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE, _SHAPE_DIMENSION, _DIMENSION_VALUE = 1, 2, 1, 1

_EXTERNAL_WORD = b"location"  # the key of a tensor's external data
_INTEGER_OPERATIONS = (b"QuantizeLinear", b"DequantizeLinear", b"DynamicQuantizeLinear", b"QLinear", b"ConvInteger", b"MatMulInteger")
_INTEGER_WORDS = (b"antizeLinear", b"QLinear", b"ConvInteger", b"MatMulInteger")

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


class TensorHeader(msgspec.Struct, frozen=True):
    """One input or output of the graph; `shape` has None for a dimension that the file does not fix."""

    name: str
    element: str
    shape: tuple[int | None, ...]

    def text(self) -> str:
        """Return name, type and shape for a sentence."""
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        name = "".join(letter if letter.isprintable() else "?" for letter in self.name[:80])
        return f"{name} {self.element} ({sizes})"


class OnnxHeader(msgspec.Struct, frozen=True):
    """The header of an ONNX file.

    Attributes:
        inputs, outputs: of the graph.
        metadata: `metadata_props`.
        external: names of other files that hold tensors of this one (external data).
        quantized: whether the graph computes in integers of 8 bits.
    """

    inputs: tuple[TensorHeader, ...]
    outputs: tuple[TensorHeader, ...]
    metadata: dict[str, str]
    external: tuple[str, ...] = ()
    quantized: bool = False


def read_header(data: bytes) -> OnnxHeader:
    """Read the header from the bytes of an ONNX file; ValueError where they are not one."""
    graph: memoryview | None = None
    has_version = False
    metadata: dict[str, str] = {}
    functions: list[memoryview] = []
    for field, value in _fields(memoryview(data)):
        if field == _MODEL_IR_VERSION and isinstance(value, int):
            has_version = True
        elif field == _MODEL_GRAPH:
            graph = _message(value)
        elif field == _MODEL_METADATA:
            entry = dict(_fields(_message(value)))
            metadata[_text(entry.get(_ENTRY_KEY, memoryview(b"")))] = _text(entry.get(_ENTRY_VALUE, memoryview(b"")))
        elif field == _MODEL_FUNCTION:
            functions.append(_message(value))
    if graph is None or not has_version:
        raise ValueError("it holds no ONNX graph")
    inputs: list[TensorHeader] = []
    outputs: list[TensorHeader] = []
    for field, value in _fields(graph):
        if field == _GRAPH_INPUT:
            inputs.append(_tensor(_message(value)))
        elif field == _GRAPH_OUTPUT:
            outputs.append(_tensor(_message(value)))
    initialized = _initialized(data, graph, inputs)
    return OnnxHeader(
        inputs=tuple(tensor for tensor in inputs if tensor.name not in initialized),
        outputs=tuple(outputs),
        metadata=metadata,
        # This needs the whole graph to be read, which a search for the word saves in almost all files.
        external=_external_files(graph, functions) if _EXTERNAL_WORD in data else (),
        quantized=_computes_in_integers(graph, functions),
    )


def _initialized(data: bytes, graph: memoryview, inputs: Sequence[TensorHeader]) -> set[str]:
    """Return the names of weights, which files of IR versions below 4 list among the inputs; empty where no input can be one."""
    # The names of thousands of weights are read only where one of them, as the file writes it, is the name of an input.
    names = [tensor.name.encode() for tensor in inputs]
    if not any(len(name) >= _ONE_BYTE or bytes((_TENSOR_NAME << 3 | _BYTES, len(name))) + name in data for name in names):
        return set()
    tensors = _messages(graph, _GRAPH_INITIALIZER)
    return {_text(name) for tensor in tensors for number, name in _fields(tensor) if number == _TENSOR_NAME}


def _external_files(graph: memoryview, functions: Sequence[memoryview]) -> tuple[str, ...]:
    """Return the files of all tensors that are not in this one: weights, and constants in nodes of any depth."""
    found: dict[str, None] = {}
    graphs, nodes, tensors, sparse = [graph], [], [], []
    for function in functions:
        nodes += _messages(function, _FUNCTION_NODE)
    while graphs or nodes:
        while graphs:
            part = graphs.pop()
            nodes += _messages(part, _GRAPH_NODE)
            tensors += _messages(part, _GRAPH_INITIALIZER)
            sparse += _messages(part, _GRAPH_SPARSE)
        while nodes:
            for attribute in _messages(nodes.pop(), _NODE_ATTRIBUTE):
                graphs += _messages(attribute, *_ATTRIBUTE_GRAPHS)
                tensors += _messages(attribute, *_ATTRIBUTE_TENSORS)
                sparse += _messages(attribute, *_ATTRIBUTE_SPARSE)
    for pair in sparse:
        tensors += _messages(pair, *_SPARSE_TENSORS)
    for tensor in tensors:
        for entry in _messages(tensor, _TENSOR_EXTERNAL):
            fields = dict(_fields(entry))
            if _text(fields.get(_ENTRY_KEY, memoryview(b""))) == "location":
                found[_text(fields.get(_ENTRY_VALUE, memoryview(b"")))] = None
    return tuple(found)


def _computes_in_integers(graph: memoryview, functions: Sequence[memoryview]) -> bool:
    nodes = _messages(graph, _GRAPH_NODE)
    for function in functions:
        nodes += _messages(function, _FUNCTION_NODE)
    text = b"".join(nodes)  # without the weights: to search it is faster than to read the operation of each node
    if not any(word in text for word in _INTEGER_WORDS):
        return False
    return any(bytes(operation).startswith(_INTEGER_OPERATIONS) for node in nodes for operation in _messages(node, _NODE_OPERATION))


def _messages(message: memoryview, *numbers: int) -> list[memoryview]:
    """Return the parts of a message with one of the field numbers."""
    return [_message(value) for field, value in _fields(message) if field in numbers]


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
        tag = message[position]
        position += 1
        if tag >= _ONE_BYTE:
            tag, position = _varint(message, position - 1)
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
