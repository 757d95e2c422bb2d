"""Reads the teachers (MoveNet MultiPose and SinglePose as ONNX, Apache-2.0) as special cases of this network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from edgepose.errors import ConfigError
from edgepose_export.network.ghost import ConvNorm
from edgepose_export.network.model import GhostPose
from edgepose_export.network.spec import TEACHERS

_HEADS = {
    "center_0": "center",
    "box_scale_0": "box_size",
    "box_offset_0": "box_offset",
    "kpt_heatmap_0": "heat",
    "kpt_regress_0": "coarse",
    "kpt_offset_0": "offset",
}


def load_movenet(path: Path) -> GhostPose:
    """Load a teacher as a `GhostPose` that equals the ONNX file to rounding; frozen, in evaluation mode.

    Raises:
        ConfigError: the file is missing or is another network.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:
        raise ConfigError(f"teacher {path} cannot be read ({type(error).__name__}): expected a MoveNet file") from error
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:  # weights are stored in half precision behind casts
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    weights = [numpy_helper.to_array(values[node.input[1]]).astype(np.float32) for node in convolutions]
    name, network = _recognize(path, weights)
    # The multi-person file names its layers, in another order; the single-person files do not, and are in order.
    targets = _order_by_name(network, convolutions) if network.spec.task == "pose" else _order(network)
    for node, weight, unit in zip(convolutions, weights, targets, strict=True):
        bias = numpy_helper.to_array(values[node.input[2]]).astype(np.float32) if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        if tuple(weight.shape) != tuple(unit.conv.weight.shape) or unit.conv.bias is None:
            raise ConfigError(f"teacher {path} ({name}): a layer has weights {weight.shape}, expected {tuple(unit.conv.weight.shape)}")
        with torch.no_grad():
            unit.conv.weight.copy_(torch.from_numpy(weight))
            unit.conv.bias.copy_(torch.from_numpy(bias))
    return network.eval().requires_grad_(False)


def _recognize(path: Path, weights: list[NDArray[np.float32]]) -> tuple[str, GhostPose]:
    """Return the name of the teacher with this number of convolutions and width of the first one, and an empty network for it."""
    for name, spec in TEACHERS.items():
        network = GhostPose(spec)
        if weights and len(weights) == len(list(_units(network))) and len(weights[0]) == spec.stem:
            return name, network
    raise ConfigError(f"teacher {path} has {len(weights)} convolutions; expected one of MoveNet {', '.join(TEACHERS)}")


def _order(network: GhostPose) -> list[ConvNorm]:
    """Return this network's units in the order of a single-person file: laterals after the blocks that they read, heads layer by layer."""
    neck, head, backbone = network.neck, network.head, network.backbone
    order = [backbone.stem]
    for index, block in enumerate(backbone.blocks):
        order.extend(_units(block))
        if index in backbone.taps:
            order.extend(_units((neck.lateral4, neck.lateral8, neck.lateral16)[backbone.taps.index(index)]))
    for part in (backbone.context, neck.lateral32, neck.smooth16, neck.smooth8, neck.smooth4):
        order.extend(_units(part))
    branches = (head.heat, head.coarse, head.center, head.offset)
    return order + [unit for layer in zip(*(_units(branch) for branch in branches), strict=True) for unit in layer]


def _order_by_name(network: GhostPose, convolutions: list[onnx.NodeProto]) -> list[ConvNorm]:
    """Return this network's units in the order of the multi-person file, which interleaves backbone and laterals."""
    neck = network.neck
    backbone = list(_units(network.backbone))
    smooth = [unit for level in (neck.smooth16, neck.smooth8, neck.smooth4) for unit in _units(level)]
    laterals: dict[str, ConvNorm] = {
        "model_1/conv2d/": next(_units(neck.lateral32)),
        "model_1/conv2d_1/": next(_units(neck.lateral16)),
        "model_1/conv2d_2/": neck.lateral8,
        "model_1/conv2d_3/": neck.lateral4,
    }
    heads = {theirs: list(_units(getattr(network.head, ours))) for theirs, ours in _HEADS.items()}
    order: list[ConvNorm] = []
    for node in convolutions:
        head = next((units for theirs, units in heads.items() if theirs in node.name), None)
        lateral = next((unit for part, unit in laterals.items() if part in node.name), None)
        if head is not None:
            order.append(head.pop(0))
        elif lateral is not None:
            order.append(lateral)
        elif backbone:
            order.append(backbone.pop(0))
        elif smooth:
            order.append(smooth.pop(0))
    return order


def _units(module: nn.Module) -> Iterator[ConvNorm]:
    return (unit for unit in module.modules() if isinstance(unit, ConvNorm))
