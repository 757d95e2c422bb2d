"""Networks small enough for tests that train and export them in seconds: a pose network and a refiner."""

from typing import overload

import torch
from torch import Tensor

from edgepose_export.network.checkpoint import Network, build
from edgepose_export.network.head import LevelHead
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.network.refiner import RefinerNetwork, RefinerSpec

TINY = PoseSpec(
    widths=(8, 8, 16, 16, 32),
    blocks=(1, 1, 1, 1),
    neck=16,
    keypoint_width=16,
    early_activation="relu",
    ghost=("trunk.stages.3.csp.join",),
    candidates=12,
    refinement_width=4,
    refinement_hidden=8,
)

PRUNABLE = PoseSpec(
    widths=(16, 16, 32, 48, 64),
    blocks=(1, 2, 2, 1),
    neck=32,
    keypoint_width=32,
    ghost=("trunk.stages.3.pooling.join", "neck.reduce32", "neck.up_path16.blocks.0.first.pointwise"),
    candidates=12,
    refinement_width=4,
    refinement_hidden=8,
)
"""Wide enough to lose maps in multiples of 8, with residual blocks, concatenations and Ghost modules."""

TINY_REFINER = RefinerSpec(
    crop_height=64, crop_width=32, crop_margin=1.25, stem=8, widths=(8, 16, 24, 32), modules=(1, 1, 1), units=1, ghost=(3,)
)


@overload
def lively(seed: int = 0) -> PoseNetwork: ...
@overload
def lively(seed: int, spec: PoseSpec) -> PoseNetwork: ...
@overload
def lively(seed: int, spec: RefinerSpec) -> RefinerNetwork: ...
def lively(seed: int = 0, spec: PoseSpec | RefinerSpec = TINY) -> Network:
    """Return a tiny network whose weights keep the signal up, so that its maps have peaks and its boxes have sides."""
    torch.manual_seed(seed)
    network = build(spec).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    with torch.no_grad():
        if isinstance(network, RefinerNetwork):
            network.heat.conv.weight.mul_(1e-3)
            return network
        units = {network.head.keypoints.out: 0.3}
        for level in network.head.levels:
            assert isinstance(level, LevelHead)
            assert level.box.conv.bias is not None
            level.box.conv.bias.fill_(1.5)  # sides of about three cells
            units |= {level.score: 1.0, level.box: 0.5}
        found: dict[ConvNorm, list[Tensor]] = {unit: [] for unit in units}
        handles = [unit.conv.register_forward_hook(lambda _, __, output, unit=unit: found[unit].append(output)) for unit in units]
        network((torch.rand(2, 3, 96, 96) < 0.02) * 3.0 - 2)  # dots on black
        for unit, handle in zip(units, handles, strict=True):
            handle.remove()
            unit.conv.weight.mul_(units[unit] / torch.stack([output.std((0, 2, 3)).mean() for output in found[unit]]).mean())
        for name, parameter in network.refinement.named_parameters():
            if name.endswith("second"):
                parameter.normal_(0, 0.02)
    return network
