"""Anchor-free YOLO-pose head on a grid of stride 4.

Each cell predicts a person score, a box and 17 coarse keypoints relative to the cell. A heat map and an offset map per keypoint
give the refinement its candidate regions. Every number is a plain linear output in cells, neither in pixels nor an integral over
a distribution: values stay within some tens, so one INT8 scale per map suffices and no softmax tail has to be quantized.
"""

from typing import NamedTuple

from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm

KEYPOINTS = 17


class PoseMaps(NamedTuple):
    """Raw maps at stride 4; lengths in cells, pairs in the order (y, x), as in the teacher.

    `center` (B, 1, H, W) logits; `box_size` (B, 2, H, W) height, width; `box_offset` (B, 2, H, W) of the box center from
    the cell's upper left corner; `heat` (B, 17, H, W) logits; `coarse` (B, 34, H, W) keypoints from the cell's upper left
    corner; `offset` (B, 34, H, W) of the keypoint from the upper left corner of a cell near it. A refiner's boxes have no
    channels.
    """

    center: Tensor
    box_size: Tensor
    box_offset: Tensor
    heat: Tensor
    coarse: Tensor
    offset: Tensor


class Branch(nn.Module):
    """One output of the head: depthwise 3x3, 1x1 with ReLU, linear 1x1."""

    def __init__(self, channels_in: int, width: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels_in, channels_in, 3, groups=channels_in, activation="none")
        self.pointwise = ConvNorm(channels_in, width, activation="relu")
        self.out = ConvNorm(width, channels_out, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H, W)."""
        y: Tensor = self.out(self.pointwise(self.depthwise(x)))
        return y


class PoseHead(nn.Module):
    """Six branches over one map, or four without `boxes`: the crop of a refiner is the box."""

    def __init__(self, channels_in: int, width: int, *, boxes: bool = True) -> None:
        super().__init__()
        self.center = Branch(channels_in, width, 1)
        self.box_size = Branch(channels_in, width, 2) if boxes else None
        self.box_offset = Branch(channels_in, width, 2) if boxes else None
        self.heat = Branch(channels_in, width, KEYPOINTS)
        self.coarse = Branch(channels_in, width, 2 * KEYPOINTS)
        self.offset = Branch(channels_in, width, 2 * KEYPOINTS)
        # Initial values: nearly every cell is empty, and a box has a size (below 0 it would get no gradient).
        for branch, value in ((self.center, -4.0), (self.heat, -4.0), (self.box_size, 8.0)):
            if branch is not None:
                nn.init.constant_(_bias(branch), value)

    def forward(self, x: Tensor) -> PoseMaps:
        """Map (B, C, H, W) to raw maps."""
        none = x[:, :0]
        box_size = none if self.box_size is None else self.box_size(x)
        box_offset = none if self.box_offset is None else self.box_offset(x)
        return PoseMaps(self.center(x), box_size, box_offset, self.heat(x), self.coarse(x), self.offset(x))


def _bias(branch: Branch) -> Tensor:
    assert branch.out.conv.bias is not None
    return branch.out.conv.bias
