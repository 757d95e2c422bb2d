"""Reads RTMDet-nano (ONNX, one class, Apache-2.0, by OpenMMLab) as a special case of our pose network."""

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import DEVIATION, RTMDET_NANO, PoseNetwork, PoseSpec

_NAMES = (
    (r"^/model/", ""),
    (r"/conv/Conv_output_0$|/Conv_output_0$", ""),
    (r"backbone/stem/stem\.(\d)", r"trunk/stem/\1"),
    (r"backbone/stage(\d)/stage\d\.0", lambda match: f"trunk/stages/{int(match[1]) - 1}/down"),
    (r"backbone/stage4/stage4\.1/conv1", "trunk/stages/3/pooling/narrow"),
    (r"backbone/stage4/stage4\.1/conv2", "trunk/stages/3/pooling/join"),
    (r"backbone/stage(\d)/stage\d\.[12]", lambda match: f"trunk/stages/{int(match[1]) - 1}/csp"),
    (r"neck/reduce_layers\.0", "neck/reduce32"),
    (r"neck/reduce_layers\.1", "neck/reduce16"),
    (r"neck/top_down_blocks\.0", "neck/down_path16"),
    (r"neck/top_down_blocks\.1", "neck/down_path8"),
    (r"neck/downsamples\.0", "neck/to16"),
    (r"neck/downsamples\.1", "neck/to32"),
    (r"neck/bottom_up_blocks\.0", "neck/up_path16"),
    (r"neck/bottom_up_blocks\.1", "neck/up_path32"),
    (r"neck/out_convs\.(\d)", r"neck/outputs/\1"),
    (r"cls_convs\.(\d)\.(\d)", r"head/levels/\1/score_tower/\2"),
    (r"reg_convs\.(\d)\.(\d)", r"head/levels/\1/box_tower/\2"),
    (r"rtm_cls\.(\d)", r"head/levels/\1/score"),
    (r"rtm_reg\.(\d)", r"head/levels/\1/box"),
    (r"blocks/blocks\.(\d)/conv1", r"blocks/\1/first"),
    (r"blocks/blocks\.(\d)/conv2", r"blocks/\1/second"),
    (r"depthwise_conv", "depthwise"),
    (r"pointwise_conv", "pointwise"),
    (r"short_conv", "short"),
    (r"main_conv", "main"),
    (r"final_conv", "join"),
    (r"attention/fc", "attention/weigh"),
    (r"/", "."),
)
"""Rules that turn the file's names of convolutions into ours, applied in order."""


def load_rtmdet(path: Path, spec: PoseSpec = RTMDET_NANO) -> PoseNetwork:
    """Load the teacher into a pose network whose trunk, neck, score and box equal the file to rounding; the rest is fresh.

    Args:
        path: ONNX file.
        spec: without Ghost modules, and with the teacher's widths.

    Raises:
        ConfigError: the file is missing or is another network.
    """
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:
        raise ConfigError(f"teacher {path} cannot be read ({type(error).__name__}): expected RTMDet-nano as ONNX") from error
    values = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:  # weights are stored in half precision behind casts
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    network = PoseNetwork(spec)
    expected = {name for name, unit in network.named_modules() if isinstance(unit, ConvNorm) and not name.startswith(_FRESH)}
    for node in (node for node in graph.node if node.op_type == "Conv"):
        name = node.output[0]
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if name not in expected:
            raise ConfigError(f"teacher {path} has a convolution {node.output[0]}, which RTMDet-nano has not")
        expected.remove(name)
        unit = network.get_submodule(name)
        assert isinstance(unit, ConvNorm)
        weight, bias = (numpy_helper.to_array(values[key]).astype(np.float32) for key in node.input[1:3])
        if weight.shape != tuple(unit.conv.weight.shape) or unit.conv.bias is None:
            raise ConfigError(f"teacher {path}: layer {name} has weights {weight.shape}, expected {tuple(unit.conv.weight.shape)}")
        with torch.no_grad():
            unit.conv.weight.copy_(torch.from_numpy(weight))
            unit.conv.bias.copy_(torch.from_numpy(bias))
    _accept_rgb(network.trunk.stem[0])
    if expected:
        raise ConfigError(f"teacher {path} lacks {len(expected)} convolutions of RTMDet-nano, {min(expected)} among them")
    return network.eval()


_DEVIATION_BGR = (57.375, 57.12, 58.395)
"""Units of the teacher's input: blue, green, red."""


def _accept_rgb(first: nn.Module) -> None:
    """Change the first convolution from the teacher's input (BGR, a deviation for each color) to `normalize`'s."""
    assert isinstance(first, ConvNorm)
    with torch.no_grad():
        first.conv.weight.mul_((DEVIATION / torch.tensor(_DEVIATION_BGR))[:, None, None])
        first.conv.weight.copy_(first.conv.weight.flip(1))


_FRESH = ("head.keypoints", "refinement")
"""Parts that the teacher has not."""
