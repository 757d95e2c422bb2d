"""Which operations of a model file are computed in INT8, and which tensors must be quantized for that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

ACTIVATIONS = ("Relu", "Clip")
_JOINS = ("Add", "Concat")
_FLOAT_ROOM = "decode"
"""Part of the network that stays float: peaks, top-k, gathered places and the refinement, a percent of the time."""


@dataclass(frozen=True)
class QuantizationPlan:
    """What is computed in INT8.

    Attributes:
        convolutions: names of convolutions.
        joins: names of additions and concatenations.
        tensors: names of the tensors that are quantized, in the order of the graph.
    """

    convolutions: frozenset[str]
    joins: frozenset[str]
    tensors: tuple[str, ...]


class Graph:
    """Producers and readers of an ONNX graph, by tensor name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: Sequence[onnx.NodeProto] = model.graph.node
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def result(self, node: onnx.NodeProto) -> str:
        """The tensor that a convolution makes, behind its activation where that alone reads it."""
        output: str = node.output[0]
        readers = self.readers.get(output, [])
        if node.op_type == "Conv" and len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            output = readers[0].output[0]
        return output

    def convolutions(self) -> list[onnx.NodeProto]:
        """Convolutions with constant weights that may be quantized, in order."""
        return [
            node
            for node in self.nodes
            if node.op_type == "Conv" and node.input[1] in self.constants and _FLOAT_ROOM not in place(node).split(".")
        ]


def place(node: onnx.NodeProto) -> str:
    """Where a node lies in the network, as PyTorch names modules: `backbone.blocks.7.expand.primary`."""
    parts = [part for part in node.name.split("/") if part]
    return ".".join(parts[1:-1] if parts[:1] == ["network"] else parts[:-1])


def lies_in(node: onnx.NodeProto, places: Iterable[str]) -> bool:
    """Whether a node lies in one of the places (`backbone.blocks.7`, `head.heat.out`); a single `*` stands for one part."""
    parts = place(node).split(".")
    for wanted in places:
        pattern = wanted.split(".")
        if len(pattern) <= len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts, strict=False)):
            return True
    return False


def make_plan(model: onnx.ModelProto, float_places: Sequence[str] = (), float_joins: Sequence[str] = ()) -> QuantizationPlan:
    """QuantizationPlan INT8 for all convolutions but those in `float_places`, and for the joins between them but those in `float_joins`."""
    graph = Graph(model)
    convolutions = [node for node in graph.convolutions() if not lies_in(node, float_places)]
    names = {node.name for node in convolutions}
    made = {graph.result(node) for node in convolutions}
    # A join between integers: everything that it reads comes from INT8, and so does what it makes go.
    candidates = [node for node in graph.nodes if node.op_type in _JOINS and not lies_in(node, [*float_places, *float_joins])]
    joins: set[str] = set()
    read = {node.input[0] for node in convolutions}
    changed = True
    while changed:
        changed = False
        for node in candidates:
            if node.name in joins or not all(name in made or name in read for name in node.input):
                continue
            readers = graph.readers.get(node.output[0], [])
            if any(reader.name in names or reader.name in joins or reader in candidates for reader in readers):
                joins.add(node.name)
                made.add(node.output[0])
                changed = True
    wanted = read | made | {name for node in candidates if node.name in joins for name in node.input}
    order = [output for node in graph.nodes for output in node.output if output in wanted]
    return QuantizationPlan(frozenset(names), frozenset(joins), tuple(order))
