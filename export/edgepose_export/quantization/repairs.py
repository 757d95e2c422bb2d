"""Repairs of INT8 weights, which need the inputs of each convolution on the calibration pictures and no training.

Adaptive rounding chooses the integers of a filter one after another; what rounding one of them changes in the output, the weights that
are still free make good (E. Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", ICLR
2023, after "Optimal Brain Compression" of the same authors). Bias correction adds what the rounded weights change in the mean of each
output (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, with measured means).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepose_export.callbacks import Progress
from edgepose_export.onnx_file import drop_unused_constants
from edgepose_export.quantization.calibration import CalibrationImages, open_session, with_outputs
from edgepose_export.quantization.graph import Graph
from edgepose_export.quantization.qdq import quantize_weight

_PATCHES = 512
"""Patches of each picture and convolution, at random places."""

_DAMPING = 0.01
"""Share of the mean square of the inputs that is added to each of them: weights that few pictures use stay near their value."""


@dataclass
class PatchMoments:
    """Mean and second moment of what a convolution's filters see; D = C k k values for each of its groups.

    Attributes:
        mean: (groups, D).
        second: (D, D), None of a convolution with several groups.
    """

    mean: NDArray[np.float64]
    second: NDArray[np.float64] | None


def patch_moments(
    model: onnx.ModelProto,
    convolutions: Sequence[onnx.NodeProto],
    images: CalibrationImages,
    progress: Progress = lambda done, total: None,
    total: int = 0,
) -> dict[str, PatchMoments]:
    """Measure the inputs of convolutions of a float model, by the names of the nodes.

    Args:
        model: float model.
        convolutions: nodes of it with constant weights.
        images: starts the calibration pictures from the first.
        progress: called after each picture.
        total: number of pictures, for `progress`.
    """
    graph = Graph(model)
    weights = {node.name: numpy_helper.to_array(graph.constants[node.input[1]]) for node in convolutions}
    made = [name for name in dict.fromkeys(node.input[0] for node in convolutions) if name not in graph.inputs]
    session = open_session(with_outputs(model, made))
    result: dict[str, PatchMoments] = {}
    generator = np.random.default_rng(0)
    for count, image in enumerate(images(), 1):
        computed = session.run(made, {session.get_inputs()[0].name: image}) if made else []
        values = dict(zip(made, computed, strict=True)) | {graph.inputs[0]: image}
        for node in convolutions:
            patches = _patches(node, weights[node.name], values[node.input[0]], generator)  # (P, groups, D)
            mean = patches.mean(0)
            second = patches[:, 0].T @ patches[:, 0] / len(patches) if patches.shape[1] == 1 else None
            known = result.setdefault(node.name, PatchMoments(np.zeros_like(mean), None if second is None else np.zeros_like(second)))
            known.mean += (mean - known.mean) / count
            if known.second is not None and second is not None:
                known.second += (second - known.second) / count
        progress(count, total)
    return result


def _patches(
    node: onnx.NodeProto, weight: NDArray[np.float32], values: NDArray[Any], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return what a convolution's filters see at some places of an input (1, C, H, W): (P, groups, D)."""
    settings: dict[str, Any] = {entry.name: list(entry.ints) if entry.ints else entry.i for entry in node.attribute}
    groups = int(settings.get("group", 1))
    strides, dilations = (settings.get(name, [1, 1]) for name in ("strides", "dilations"))
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
    height, width = weight.shape[2:]
    rows, columns = (
        (size - (kernel - 1) * dilation - 1) // stride + 1
        for size, kernel, dilation, stride in zip(padded.shape[1:], (height, width), dilations, strides, strict=True)
    )
    chosen = generator.permutation(rows * columns)[:_PATCHES]
    y = (chosen // columns * strides[0])[:, None] + np.arange(height) * dilations[0]
    x = (chosen % columns * strides[1])[:, None] + np.arange(width) * dilations[1]
    seen = padded[:, y[:, :, None], x[:, None, :]]  # (C, P, k, k)
    patches: NDArray[np.float64] = seen.swapaxes(0, 1).reshape(len(chosen), groups, -1).astype(np.float64)
    return patches


def round_adaptively(weight: NDArray[np.float32], moments: PatchMoments) -> NDArray[np.int8]:
    """Return the integers of weights (C', C, k, k), by the scales of `quantize_weight`, with the least error of the output."""
    nearest, scale = quantize_weight(weight)
    if moments.second is None:
        return nearest
    free = (weight.reshape(len(weight), -1) / scale[:, None]).astype(np.float64)  # (C', D) in steps
    damped = moments.second + np.eye(len(moments.second)) * max(_DAMPING * np.trace(moments.second) / len(moments.second), 1e-12)
    order = np.argsort(-np.diag(damped), kind="stable")  # the inputs that matter most have the most others to make good for them
    free = free[:, order]
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    integers = np.empty_like(free)
    for index in range(free.shape[1]):
        integers[:, index] = np.clip(np.round(free[:, index]), -127, 127)
        error = (free[:, index] - integers[:, index]) / upper[index, index]
        free[:, index + 1 :] -= error[:, None] * upper[index, index + 1 :]
    result = np.empty_like(integers)
    result[:, order] = integers
    return result.reshape(weight.shape).astype(np.int8)


def correct_biases(
    model: onnx.ModelProto, moments: Mapping[str, PatchMoments], weights: Mapping[str, NDArray[np.float32]]
) -> onnx.ModelProto:
    """Return a copy of a float model whose biases make good what changed weights change in the mean of each output.

    Args:
        model: float model.
        moments: by the names of the convolutions to correct.
        weights: what the weights become, by their names; other convolutions stay as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = Graph(result)
    for node, weight in weighted(graph, moments):
        if node.input[1] not in weights or len(node.input) < 3 or node.input[2] not in graph.constants:
            continue
        mean = moments[node.name].mean  # (groups, D)
        change = (weights[node.input[1]] - weight).reshape(len(mean), -1, mean.shape[1])
        bias = numpy_helper.to_array(graph.constants[node.input[2]]) - np.einsum("god,gd->go", change, mean).ravel()
        name = f"{node.name}_corrected_bias"  # of its own: equal biases can be one constant
        result.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), name))
        node.input[2] = name
    drop_unused_constants(result.graph)
    return result


def rounded_weights(model: onnx.ModelProto, moments: Mapping[str, PatchMoments], *, adaptively: bool) -> dict[str, NDArray[np.int8]]:
    """Return the integers of convolutions' weights, by the names of the weights; one that several use is rounded to the nearest."""
    graph = Graph(model)
    uses = Counter(node.input[1] for node in graph.nodes if node.op_type == "Conv")
    return {
        node.input[1]: round_adaptively(weight, moments[node.name])
        if adaptively and uses[node.input[1]] == 1
        else quantize_weight(weight)[0]
        for node, weight in weighted(graph, moments)
    }


def in_steps(weight: NDArray[np.float32], integers: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return the values of integers that stand for weights (C', C, k, k)."""
    return integers * quantize_weight(weight)[1][:, None, None, None]


def weighted(graph: Graph, moments: Mapping[str, PatchMoments]) -> Iterator[tuple[onnx.NodeProto, NDArray[np.float32]]]:
    """Yield the convolutions that `moments` names, with their weights."""
    for node in graph.nodes:
        if node.name in moments:
            yield node, numpy_helper.to_array(graph.constants[node.input[1]])
