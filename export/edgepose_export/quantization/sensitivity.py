"""The precision that each part of a network loses when it alone is computed in INT8."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edgepose_export.callbacks import Progress
from edgepose_export.quantization.calibration import CalibrationImages, open_session, with_outputs
from edgepose_export.quantization.graph import Graph, lies_in, make_plan, place
from edgepose_export.quantization.head import last_convolutions
from edgepose_export.quantization.qdq import Range, insert


@dataclass(frozen=True)
class Sensitivity:
    """The precision that one part loses.

    Attributes:
        place: name of the part, such as `trunk.stages.2.csp`.
        error: mean over the raw maps of (variance of the error / variance of the map): 0 is exact, 1 is noise.
    """

    place: str
    error: float


RAW_MAPS = ("head.levels.*.score", "head.levels.*.box", "head.keypoints.out", "heat")
"""Modules that make what the decoder reads."""

_DEPTH = 4
"""Parts of a module's name that name a part of the network."""


def parts(model: onnx.ModelProto) -> list[str]:
    """Return the parts of a network to measure one by one, such as `trunk.stages.2.csp` or `head.levels.0.score`."""
    return list(dict.fromkeys(_part(node) for node in Graph(model).convolutions()))


def _part(node: onnx.NodeProto) -> str:
    return ".".join(place(node).removesuffix(".conv").split(".")[:_DEPTH])


def map_tensors(model: onnx.ModelProto) -> list[str]:
    """Return the names of the raw maps: outputs of the network's last convolutions."""
    return [node.output[0] for node in raw_map_convolutions(model)]


def raw_map_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the last convolutions: known by name in our networks, where others read the features too."""
    graph = Graph(model)
    return [node for node in graph.convolutions() if lies_in(node, RAW_MAPS)] or last_convolutions(graph)


def measure(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    images: CalibrationImages,
    *,
    symmetric: bool,
    integer_silu: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Sensitivity]:
    """Quantize one part at a time and compare the raw maps with the float model's; the most sensitive part first."""
    maps = map_tensors(model)
    reference = run_maps(model, maps, images)
    everything = parts(model)
    result = []
    for number, part in enumerate(everything, 1):
        plan = make_plan(model, [other for other in everything if other != part], integer_silu=integer_silu)
        quantized = insert(model, plan, ranges, symmetric=symmetric)
        result.append(Sensitivity(part, map_error(reference, run_maps(quantized, _names(quantized, maps), images))))
        progress(number, len(everything))
    return sorted(result, key=lambda entry: -entry.error)


def run_maps(model: onnx.ModelProto, maps: Sequence[str], images: CalibrationImages) -> list[list[NDArray[np.float32]]]:
    """Return the raw maps of each picture."""
    session = open_session(with_outputs(model, maps))
    return [session.run(list(maps), {session.get_inputs()[0].name: image}) for image in images()]


def _names(model: onnx.ModelProto, maps: Sequence[str]) -> list[str]:
    """Return the maps' names as the rest of a quantized graph reads them."""
    made = {output for node in model.graph.node for output in node.output}
    return [f"{name}_float" if f"{name}_float" in made else name for name in maps]


def map_error(reference: Sequence[Sequence[NDArray[np.float32]]], other: Sequence[Sequence[NDArray[np.float32]]]) -> float:
    """Return the variance of the error relative to the map's, per channel, as a mean over maps and pictures."""
    shares = []
    for ours, theirs in zip(reference, other, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            spread = (a - a.mean((2, 3), keepdims=True)).astype(np.float64)
            shares.append(((b - a).astype(np.float64) ** 2).sum() / max((spread**2).sum(), 1e-12))
    return float(np.mean(shares))
