"""The plan of INT8 in a graph: which operations compute in integers, and which tensors are quantized for them."""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx

from edgepose_export.quantization.islands import name_lies_in

ACTIVATIONS = ("Relu", "Clip")
_JOINS = ("Add", "Concat")
_SELECTIONS = ("Gather", "MaxPool")
_MORE_SELECTIONS = ("Split", "Slice", "Resize")
NETWORK = "network"
"""Module whose convolutions may be quantized. What comes after it in the graph (candidates, suppression, the refinement of candidates,
the decoding of heat maps) stays float: it computes positions, which need more than 256 steps, in a few percent of the time."""


@dataclass(frozen=True)
class QuantizationPlan:
    """The parts of a quantized model that run in INT8.

    Attributes:
        convolutions: names of convolutions.
        joins: names of additions, concatenations and selections.
        tensors: names of the tensors that are quantized, in the order of the graph.
        tied: tensors that have the range of another one, because a selection of its values makes them.
        before_silu: outputs of convolutions that a SiLU reads.
    """

    convolutions: frozenset[str]
    joins: frozenset[str]
    tensors: tuple[str, ...]
    tied: dict[str, str]
    before_silu: frozenset[str]


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
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in model.graph.output]

    def result(self, node: onnx.NodeProto) -> str:
        """Return the output of a node, or of the activation after a convolution or an addition that nothing else reads."""
        output: str = node.output[0]
        readers = self.readers.get(output, [])
        if node.op_type in ("Conv", "Add") and len(readers) == 1 and readers[0].op_type in ACTIVATIONS:
            output = readers[0].output[0]
        return output

    def results(self, node: onnx.NodeProto) -> list[str]:
        """Return the outputs of a node, the first one behind its activation as `result` does."""
        return [self.result(node), *node.output[1:]]

    def silu(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the product that ends a SiLU (x times its sigmoid) after a convolution; None where another operation reads it."""
        readers = self.readers.get(node.output[0], [])
        if sorted(reader.op_type for reader in readers) != ["Mul", "Sigmoid"]:
            return None
        sigmoid, product = sorted(readers, key=lambda reader: reader.op_type == "Mul")
        return product if set(product.input) == {node.output[0], sigmoid.output[0]} else None

    def convolutions(self) -> list[onnx.NodeProto]:
        """Return the convolutions of the network with constant weights, in order: those that may be quantized."""
        return [
            node
            for node in self.nodes
            if node.op_type == "Conv" and node.input[1] in self.constants and path_of(node)[:1] == [NETWORK] and place(node)
        ]


def place(node: onnx.NodeProto) -> str:
    """Return the module that a node belongs to, as PyTorch names modules: `trunk.stages.2.csp.blocks.0.first.depthwise.conv`."""
    parts = path_of(node)[:-1]
    if parts[:1] == [NETWORK]:
        del parts[0]
    # The tracer writes `stem/stem.0` for an entry of a list, and `conv_2` for the third use of a layer.
    kept = [part for part, following in itertools.zip_longest(parts, parts[1:], fillvalue="") if not following.startswith(f"{part}.")]
    return re.sub(r"\bconv_\d+$", "conv", ".".join(kept))


def path_of(node: onnx.NodeProto) -> list[str]:
    """Return the parts of a node's name, which the tracer separates by slashes."""
    return [part for part in node.name.split("/") if part]


FLOAT_CONVOLUTIONS = "float_convolutions"
"""Key of the metadata of an INT8 file: the names of the convolutions that are not INT8, as JSON."""


def float_convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions of a quantized model that do not read integers, in order."""
    graph = Graph(model)

    def dequantized(name: str) -> bool:
        maker = graph.producer.get(name)
        return maker is not None and maker.op_type == "DequantizeLinear"

    convolutions = [node for node in graph.nodes if node.op_type == "Conv"]
    return [node.name for node in convolutions if not (dequantized(node.input[0]) and dequantized(node.input[1]))]


def lies_in(node: onnx.NodeProto, places: Iterable[str]) -> bool:
    """Return whether a node lies in one of the modules, by `name_lies_in`."""
    return name_lies_in(place(node), places)


def make_plan(
    model: onnx.ModelProto, float_places: Sequence[str] = (), float_joins: Sequence[str] = (), *, integer_silu: bool = False
) -> QuantizationPlan:
    """Plan INT8 for all convolutions but those in `float_places`, and for the joins between them but those in `float_joins`.

    With `integer_silu` the SiLU between two INT8 operations is INT8 too: ONNX Runtime computes its sigmoid by a table.
    """
    graph = Graph(model)
    convolutions = [node for node in graph.convolutions() if not lies_in(node, float_places)]
    names = {node.name for node in convolutions}
    before_silu = {node.output[0] for node in convolutions if graph.silu(node) is not None}
    made = {graph.result(node) for node in convolutions}
    read = {node.input[0] for node in convolutions}
    selections = (*_SELECTIONS, *_MORE_SELECTIONS) if integer_silu else _SELECTIONS
    # A join computes in integers if INT8 operations make or read all of its inputs and an INT8 operation reads its output.
    joins = {
        node.name: node
        for node in graph.nodes
        if (node.op_type in _JOINS or (node.op_type in selections and path_of(node)[:1] == [NETWORK] and _only_selects(node)))
        and not lies_in(node, [*float_places, *float_joins])
    }
    # What a SiLU after an INT8 convolution makes is INT8 too, and can be selected in integers.
    products = {silu.output[0]: silu for node in convolutions if integer_silu and (silu := graph.silu(node)) is not None}
    sigmoids = {silu.name: graph.producer[name] for silu in products.values() for name in silu.input if name not in before_silu}
    joins |= {silu.name: silu for silu in products.values()}
    made |= {sigmoid.output[0] for sigmoid in sigmoids.values()}
    changed = True
    while changed:
        known = made | read | {output for node in joins.values() for output in graph.results(node)}
        kept = {
            name: node
            for name, node in joins.items()
            if all(
                not source or source in known or source in graph.constants or (source in products and node.op_type in selections)
                for source in node.input
            )
            and any(
                reader.name in names or reader.name in joins for output in graph.results(node) for reader in graph.readers.get(output, [])
            )
        }
        changed = len(kept) < len(joins)
        joins = kept
    tied = {output: node.input[0] for node in joins.values() if node.op_type in selections for output in node.output}
    inputs = {name for node in joins.values() for name in node.input if name and name not in graph.constants}
    joins |= {sigmoids[name].name: sigmoids[name] for name in joins.keys() & sigmoids.keys()}
    made -= {sigmoid.output[0] for sigmoid in sigmoids.values() if sigmoid.name not in joins}
    wanted = read | made | inputs | {output for node in joins.values() for output in graph.results(node)}
    made_in_order = (output for node in graph.nodes for output in node.output)
    order = [name for name in (*graph.inputs, *made_in_order) if name in wanted]
    return QuantizationPlan(frozenset(names), frozenset(joins), tuple(order), tied, frozenset(before_silu))


def _only_selects(node: onnx.NodeProto) -> bool:
    """Return whether an operation copies values: an enlargement does if it takes the nearest one, which is its default."""
    mode = next((entry.s for entry in node.attribute if entry.name == "mode"), b"nearest")
    return node.op_type != "Resize" or bool(mode == b"nearest")
