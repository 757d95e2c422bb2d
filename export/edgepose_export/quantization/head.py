"""Networks of others in the form in which ours are quantized: simple nodes, names that say what belongs to the network, and the raw maps.

Names of other exporters say nothing that can be relied on, so the roles are found in the graph, walking back from the outputs: what the
last convolutions make are the raw maps, and what follows them is the decoding, which stays float.
"""

from collections.abc import Iterator

import onnx

from edgepose.engine.native_errors import NATIVE_ERRORS, error_when_loading
from edgepose.errors import ModelError
from edgepose_export.onnx_file import get_metadata, set_metadata, simplify
from edgepose_export.quantization.graph import NETWORK, Graph, path_of

_REARRANGEMENTS = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten")


def with_network_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a simplified copy of a stranger's float model whose nodes before the decoding are named as nodes of our network are.

    Args:
        model: float, with the convolutions' weights as constants.

    Raises:
        ModelError: no convolution leads to an output, or ONNX Runtime refuses the file.
    """
    try:
        result = simplify(model)
    except NATIVE_ERRORS as error:
        raise error_when_loading(error, "onnxruntime refuses the network", cpu=True) from error
    set_metadata(result, get_metadata(model))
    graph = Graph(result)
    last = last_convolutions(graph)
    if not last:
        raise ModelError("no convolution with constant weights leads to an output of the network; expected a pose network's head")
    for node in _before(graph, last):
        index = next(number for number, other in enumerate(graph.nodes) if other is node)
        node.name = f"/{NETWORK}/" + ("/".join(path_of(node)) or f"node_{index}/{node.op_type}")
    return result


def last_convolutions(graph: Graph) -> list[onnx.NodeProto]:
    """Return the convolutions that make the raw maps: the first ones met from the outputs backwards, in the order of the graph."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(graph.outputs)
    while waiting:
        name = waiting.pop()
        node = graph.producer.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Conv" and node.input[1] in graph.constants and not _is_expectation(graph, node):
            found.add(node.output[0])
        else:
            waiting.extend(node.input)
    return [node for node in graph.nodes if node.op_type == "Conv" and node.output[0] in found]


def _is_expectation(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a convolution takes the mean of a distribution (distribution focal loss): decoding, though it has weights."""
    maker = graph.producer.get(node.input[0])
    while maker is not None and maker.op_type in _REARRANGEMENTS:
        maker = graph.producer.get(maker.input[0])
    return maker is not None and maker.op_type == "Softmax"


def _before(graph: Graph, last: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that lead to some convolutions, those included."""
    seen: set[str] = set()
    waiting = [node.output[0] for node in last]
    while waiting:
        name = waiting.pop()
        node = graph.producer.get(name)
        if node is None or name in seen:
            continue
        seen.update(node.output)
        yield node
        waiting.extend(node.input)
