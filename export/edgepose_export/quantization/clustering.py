"""Weight clustering: each layer's weights share a few values, a codebook, and the file stores the number of each weight's value.

After S. Han et al., "Deep Compression", ICLR 2016, with a scale for each filter: folded batch-norms make filters of one layer differ by
orders of magnitude. The graph expands itself: a `Gather` takes the weights out of the codebook and a `Mul` scales the filters, which
inference libraries do once when they load the file. So the network costs as much time and memory as before, and a smaller file.

The codebook of a layer starts from k-means. On pictures it is tuned to the layer's output: for given numbers, the values with the
least squared error of the output have a closed form, and so has the mean that a bias makes good (`repairs`).
"""

import lzma
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepose.errors import ModelError
from edgepose_export.onnx_file import drop_unused_constants, store_half
from edgepose_export.quantization.repairs import PatchMoments, correct_biases

FEWEST_WEIGHTS = 512
"""Smaller layers and depthwise ones are stored in half precision: they weigh little and lose the most."""

MOST_VALUES = 256
"""Values of a codebook whose numbers fit into a byte."""

_ROUNDS = 25
_LAYERS = ("Conv", "MatMul", "Gemm")


@dataclass(frozen=True)
class Codebook:
    """The values of a layer's weights.

    Attributes:
        values: float32 (K,).
        numbers: uint8, of the shape of the weights.
        scales: float32, factors of the filters, of a shape that multiplies the weights.
    """

    values: NDArray[np.float32]
    numbers: NDArray[np.uint8]
    scales: NDArray[np.float32]

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights that it stands for."""
        product: NDArray[np.float32] = self.values[self.numbers] * self.scales
        return product


def cluster_weights(weight: NDArray[np.float32], count: int, importance: NDArray[np.float64] | None = None) -> Codebook:
    """Cluster weights by k-means in one dimension, begun at quantiles.

    Args:
        weight: (C', …), a filter in each row.
        count: number of values, at most 256.
        importance: weight of each weight's squared error, of the same shape; None is equal.
    """
    size = np.sqrt((weight.astype(np.float64) ** 2).mean(tuple(range(1, weight.ndim)), keepdims=True))
    scales = np.where(size > 0, size, 1.0).astype(np.float16).astype(np.float32)
    flat = (weight / scales).ravel().astype(np.float64)
    mass = np.ones_like(flat) if importance is None else importance.ravel() + 1e-12
    # Half of the starts follow the density, half the range: quantiles alone leave the rare large weights without a value.
    starts = np.concatenate([np.quantile(flat, np.linspace(0, 1, count - count // 2)), np.linspace(flat.min(), flat.max(), count // 2)])
    values = np.unique(starts)
    for _ in range(_ROUNDS):
        numbers = np.searchsorted((values[1:] + values[:-1]) / 2, flat)
        total = np.bincount(numbers, mass, len(values))
        mean = np.bincount(numbers, mass * flat, len(values)) / np.maximum(total, 1e-30)
        moved = np.unique(np.where(total > 0, mean, values))
        if len(moved) == len(values) and np.allclose(moved, values, rtol=1e-6, atol=0):
            break
        values = moved
    numbers = np.searchsorted((values[1:] + values[:-1]) / 2, flat)
    return Codebook(values.astype(np.float32), numbers.astype(np.uint8).reshape(weight.shape), scales)


def tune_codebook(weight: NDArray[np.float32], codebook: Codebook, second: NDArray[np.float64]) -> Codebook:
    """Return a codebook with the values that give the least squared error of the layer's output.

    With M for the second moment of the inputs, w a filter over its scale and B its assignment of numbers, the sum over filters of
    (w - B v)' M (w - B v) is least where sum(B' M B) v = sum(B' M w).

    Args:
        weight: (C', D…), as they were.
        codebook: of these weights.
        second: (D, D), second moment of the inputs.
    """
    count = len(codebook.values)
    filters, numbers = (weight / codebook.scales).reshape(len(weight), -1).astype(np.float64), codebook.numbers.reshape(len(weight), -1)
    left, right = np.zeros((count, count)), np.zeros(count)
    for row, assigned in zip(filters, numbers, strict=True):
        order = np.argsort(assigned, kind="stable")
        present, starts = np.unique(assigned[order], return_index=True)
        moment = np.add.reduceat(second[order], starts, axis=0)  # B' M: rows of the inputs whose weights are one value
        right[present] += moment @ row
        left[np.ix_(present, present)] += np.add.reduceat(moment[:, order], starts, axis=1)
    # Values that hardly matter stay where they are.
    damping = 1e-3 * np.trace(left) / count + 1e-12
    values = np.linalg.solve(left + damping * np.eye(count), right + damping * codebook.values)
    return Codebook(values.astype(np.float32), codebook.numbers, codebook.scales)


def cluster_model(model: onnx.ModelProto, count: int, moments: Mapping[str, PatchMoments] = {}) -> onnx.ModelProto:
    """Return a copy of a float model whose larger layers have codebooks; everything else is stored in half precision.

    Args:
        model: float, weights in full precision.
        count: values of each codebook, 2 to 256.
        moments: inputs of convolutions by the names of the nodes, to tune the codebooks with.

    Raises:
        ModelError: no layer is large enough.
    """
    known = {node.input[1]: moments[node.name] for node in model.graph.node if node.name in moments}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    codebooks: dict[str, Codebook] = {}
    # Other large constants, such as the places of the cells, are no weights.
    for name in dict.fromkeys(node.input[1] for node in model.graph.node if node.op_type in _LAYERS and node.input[1] in constants):
        weight = numpy_helper.to_array(constants[name])
        depthwise = weight.ndim == 4 and weight.shape[1] == 1
        if weight.dtype == np.float32 and weight.size >= FEWEST_WEIGHTS and not depthwise and len(np.unique(weight)) > count:
            moment = known[name].second if name in known else None
            codebooks[name] = cluster_weights(weight, count) if moment is None else tuned_codebook(weight, count, moment)
    if not codebooks:
        raise ModelError(f"the network has no layer of {FEWEST_WEIGHTS} weights or more in float; expected one to cluster")
    result = correct_biases(model, moments, {name: codebook.weights for name, codebook in codebooks.items()})
    nodes: list[onnx.NodeProto] = []
    for name, codebook in codebooks.items():
        next(tensor for tensor in result.graph.initializer if tensor.name == name).name = f"{name}_replaced"
        nodes += _expansion(result, name, codebook)
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in result.graph.node]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    drop_unused_constants(result.graph)
    return store_half(result)


def tuned_codebook(weight: NDArray[np.float32], count: int, second: NDArray[np.float64]) -> Codebook:
    """Cluster weights by what they matter for the output, and tune the values; arguments as of `cluster_weights` and `tune_codebook`."""
    importance = np.broadcast_to(np.diag(second), (len(weight), len(second)))
    return tune_codebook(weight, cluster_weights(weight, count, importance), second)


def _expansion(model: onnx.ModelProto, name: str, codebook: Codebook) -> list[onnx.NodeProto]:
    """Store a codebook and return the nodes that make the tensor `name` of it."""
    stored = {"codebook": codebook.values.astype(np.float16), "scales": codebook.scales.astype(np.float16), "numbers": codebook.numbers}
    model.graph.initializer.extend(numpy_helper.from_array(value, f"{name}_{key}") for key, value in stored.items())
    return [
        helper.make_node("Cast", [f"{name}_numbers"], [f"{name}_places"], f"{name}_Cast", to=TensorProto.INT32),
        helper.make_node("Cast", [f"{name}_codebook"], [f"{name}_values"], f"{name}_Cast_values", to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}_scales"], [f"{name}_factors"], f"{name}_Cast_scales", to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_values", f"{name}_places"], [f"{name}_plain"], f"{name}_Gather"),
        helper.make_node("Mul", [f"{name}_plain", f"{name}_factors"], [name], f"{name}_Mul"),
    ]


def compressed_size(data: bytes) -> tuple[int, str]:
    """Return the size of a file after entropy coding, and how: `zstd -19` where the program is installed, else `xz -9`."""
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-19", "-c", "-q"], input=data, capture_output=True, check=True, timeout=600)
        return len(done.stdout), "zstd -19"
    return len(lzma.compress(data, preset=9)), "xz -9"
