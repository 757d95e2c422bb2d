"""Anchor-free YOLO-pose head: a person score, a box and 17 coarse keypoints for each cell of three grids.

Score and box follow RTMDet (see `cspnext`): towers of separable convolutions for each level, distances from the cell's corner. The
keypoints are one more tower, whose weights all levels share. It predicts them relative to the box, in units of the box's sides, so
that one scale fits people of all sizes and all levels; it starts at the mean pose of a person in their box.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgepose_export.network.layers import Activation, ConvNorm, SeparableConv

KEYPOINTS = 17
STRIDES = (8, 16, 32)

MEAN_POSE = (
    (0.0, -0.333), (0.023, -0.361), (-0.023, -0.361), (0.063, -0.357), (-0.063, -0.357), (0.124, -0.224), (-0.124, -0.224),
    (0.179, -0.045), (-0.179, -0.045), (0.114, -0.006), (-0.114, -0.006), (0.079, 0.114), (-0.079, 0.114), (0.071, 0.226),
    (-0.071, 0.226), (0.064, 0.407), (-0.064, 0.407),
)  # fmt: skip
"""(17, 2): x, y of a keypoint from the middle of its person's box, in the box's sides: means of 25,378 people of COCO, made symmetric."""


class PoseMaps(NamedTuple):
    """Raw outputs of all cells, level by level and row by row: N = H W / 64 + H W / 256 + H W / 1024.

    `score` (B, N) logits; `box` (B, 4, N) distances left, top, right, bottom of the cell's corner from the box's sides, in input
    pixels; `keypoints` (B, 51, N): 17 x, then 17 y from the middle of the box in the box's sides, then 17 logits of confidence;
    `fine` (B, C, H/8, W/8) features for the refinement, whose sides say where each cell lies (`corners_of`).
    """

    score: Tensor
    box: Tensor
    keypoints: Tensor
    fine: Tensor


class LevelHead(nn.Module):
    """Score and box of one level."""

    def __init__(self, width: int, stride: int, *, activation: Activation) -> None:
        super().__init__()
        self.stride = stride
        self.score_tower = nn.Sequential(*(SeparableConv(width, width, activation=activation) for _ in range(2)))
        self.box_tower = nn.Sequential(*(SeparableConv(width, width, activation=activation) for _ in range(2)))
        self.score = ConvNorm(width, 1, activation="none")
        self.box = ConvNorm(width, 4, activation="none")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, h, w) to logits (B, 1, h, w) and distances in input pixels (B, 4, h, w)."""
        return self.score(self.score_tower(x)), self.box(self.box_tower(x)) * self.stride


class KeypointTower(nn.Module):
    """17 coarse keypoints of each cell, with the same weights on all levels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.tower = nn.Sequential(SeparableConv(width, hidden, 5, activation="relu"), SeparableConv(hidden, hidden, 5, activation="relu"))
        self.out = ConvNorm(hidden, 3 * KEYPOINTS, activation="none")
        pose = torch.tensor(MEAN_POSE)
        assert self.out.conv.bias is not None
        with torch.no_grad():
            self.out.conv.weight.mul_(0.1)
            self.out.conv.bias.copy_(torch.cat([pose[:, 0], pose[:, 1], torch.full((KEYPOINTS,), -2.0)]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, 51, h, w), see `PoseMaps`."""
        y: Tensor = self.out(self.tower(x))
        return y


class PoseHead(nn.Module):
    """The heads of all levels."""

    def __init__(self, width: int, hidden: int, *, activation: Activation) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LevelHead(width, stride, activation=activation) for stride in STRIDES)
        self.keypoints = KeypointTower(width, hidden)

    def forward(self, features: list[Tensor]) -> PoseMaps:
        """Map three maps (B, C, h, w) at strides 8, 16 and 32 to raw outputs."""
        scores, boxes = [], []
        for level, x in zip(self.levels, features, strict=True):
            assert isinstance(level, LevelHead)
            score, box = level(x)
            scores.append(score.flatten(1))
            boxes.append(box.flatten(2))
        keypoints = torch.cat([self.keypoints(x).flatten(2) for x in features], 2)
        return PoseMaps(torch.cat(scores, 1), torch.cat(boxes, 2), keypoints, features[0])


def corners_of(cell: Tensor, fine: Tensor) -> Tensor:
    """Return x and y of the upper left corner of cells in input pixels: int64 (...) -> float (..., 2).

    Args:
        cell: indices among the N cells of a picture.
        fine: (B, C, H/8, W/8) features, as of `PoseMaps`.
    """
    height, width = fine.shape[2], fine.shape[3]
    first = torch.zeros_like(cell)  # of the level that each cell belongs to
    columns, stride = torch.full_like(cell, width), torch.full_like(cell, STRIDES[0])
    end = height * width
    for number, side in enumerate(STRIDES[1:], start=1):
        later = cell >= end
        first, columns = torch.where(later, end, first), torch.where(later, width >> number, columns)
        stride = torch.where(later, side, stride)
        end = end + (height >> number) * (width >> number)
    place = cell - first
    row = torch.div(place, columns, rounding_mode="trunc")
    return (torch.stack([place - row * columns, row], -1) * stride[..., None]).to(torch.float32)


def boxes_around(corner: Tensor, distance: Tensor) -> Tensor:
    """Return the boxes (..., 4) x1 y1 x2 y2 of cells from their corners (..., 2) and distances (..., 4), as of `PoseMaps.box`."""
    return torch.cat([corner - distance[..., :2], corner + distance[..., 2:]], -1)
