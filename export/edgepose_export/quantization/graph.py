"""The plan of INT8 in a graph: which operations compute in integers, and which tensors are quantized for them."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

ACTIVATIONS = ("Relu", "Clip")
_JOINS = ("Add", "Concat")
_FLOAT_PARTS = {"decode", "refinement"}
"""Parts of a network that stay float (top-k, gathering, refinement; a refiner's decoder): one percent of the time."""


@dataclass(frozen=True)
class QuantizationPlan:
    """The parts of a quantized model that run in INT8.

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
        """Return the output of a node, or of the activation after a convolution where nothing else reads the convolution."""
        output: str = node.output[0]
        readers = self.readers.get(output, [])
        if node.op_type == "Conv" and len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            output = readers[0].output[0]
        return output

    def convolutions(self) -> list[onnx.NodeProto]:
        """Return the convolutions with constant weights that may be quantized, in order."""
        return [
            node
            for node in self.nodes
            if node.op_type == "Conv" and node.input[1] in self.constants and _FLOAT_PARTS.isdisjoint(place(node).split("."))
        ]


def place(node: onnx.NodeProto) -> str:
    """Return the module that a node belongs to, as PyTorch names modules: `trunk.stages.3.csp.join.primary`."""
    parts = [part for part in node.name.split("/") if part][:-1]
    if parts[:1] == ["network"]:
        del parts[0]
    # The exporter writes `stem/stem.0` for an entry of a sequence, and `conv_2` for the third use of a layer.
    kept = [part for part, following in itertools.zip_longest(parts, parts[1:], fillvalue="") if not following.startswith(f"{part}.")]
    return re.sub(r"\bconv_\d+$", "conv", ".".join(kept))


def lies_in(node: onnx.NodeProto, places: Iterable[str]) -> bool:
    """Return whether a node lies in one of the modules (`trunk.stages.3`, `head.levels.0.score`); `*` stands for one part of a name."""
    parts = place(node).split(".")
    for wanted in places:
        pattern = wanted.split(".")
        if len(pattern) <= len(parts) and all(a in ("*", b) for a, b in zip(pattern, parts, strict=False)):
            return True
    return False


def make_plan(model: onnx.ModelProto, float_places: Sequence[str] = (), float_joins: Sequence[str] = ()) -> QuantizationPlan:
    """Plan INT8 for all convolutions but those in `float_places`, and for the joins between them but those in `float_joins`."""
    graph = Graph(model)
    convolutions = [node for node in graph.convolutions() if not lies_in(node, float_places)]
    names = {node.name for node in convolutions}
    made = {graph.result(node) for node in convolutions}
    # A join computes in integers if INT8 operations make all of its inputs and read its output.
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
