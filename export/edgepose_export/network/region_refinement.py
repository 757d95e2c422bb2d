"""Candidate-region refinement of keypoints inside the graph: the paper's "RCNN essence".

Each candidate's box, slightly enlarged, is a region of the feature map. Features sampled on a regular grid over the region, together
with the coarse pose, give an offset and a confidence for each keypoint. A repeated step samples around the refined pose.

A region makes people of all sizes and places look alike, so it learns from few pictures: with features that are not trained for it,
12,000 people bring a mean OKS of 0.30, where 21,000 pictures bring the cells' own keypoints from 0.17 to 0.20.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.head import KEYPOINTS
from edgepose_export.network.layers import ConvNorm

GRID = (8, 6)
"""Rows and columns of samples."""

_ENLARGEMENT = 1.2
"""Sides of the region over those of the box: limbs leave a box that is a little off."""


class RegionStep(nn.Module):
    """One iteration: the samples of a region and the pose so far -> changes of all keypoints and confidences.

    Args:
        width: features in a sample.
        hidden: width of the layer between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(GRID[0] * GRID[1] * width + 3 * KEYPOINTS, hidden)
        self.second = nn.Linear(hidden, 3 * KEYPOINTS)
        nn.init.zeros_(self.second.weight)  # the first offsets are 0
        nn.init.zeros_(self.second.bias)

    def forward(self, samples: Tensor, pose: Tensor) -> Tensor:
        """Map samples (..., rows * columns * width) and poses (..., 51) to changes of the poses (..., 51)."""
        change: Tensor = self.second(F.relu(self.first(torch.cat([samples, pose], -1))))
        return change


class RegionRefinement(nn.Module):
    """`iterations` steps of refinement.

    Args:
        channels: of the features at stride 8.
        width: features in a sample.
        hidden: width of each step.
        iterations: 0 leaves the coarse keypoints as they are.
    """

    def __init__(self, channels: int, width: int, hidden: int, iterations: int) -> None:
        super().__init__()
        self.narrow = ConvNorm(channels, width, activation="relu") if iterations else None
        self.steps = nn.ModuleList(RegionStep(width, hidden) for _ in range(iterations))
        rows, columns = ((torch.arange(count) + 0.5) / count - 0.5 for count in GRID)
        self.rows: Tensor
        self.columns: Tensor
        self.register_buffer("rows", rows.repeat_interleave(GRID[1]) * _ENLARGEMENT, persistent=False)  # (rows * columns,)
        self.register_buffer("columns", columns.repeat(GRID[0]) * _ENLARGEMENT, persistent=False)

    def forward(self, fine: Tensor, boxes: Tensor, pose: Tensor) -> list[Tensor]:
        """Return the pose before and after each step; the last one is the result.

        Args:
            fine: (B, C, H/8, W/8) features.
            boxes: (B, K, 4) x1 y1 x2 y2 in input pixels.
            pose: (B, K, 51): 17 x, 17 y from the middle of the box in the box's sides, 17 logits.

        Returns:
            Poses (B, K, 51) in the same units.
        """
        poses = [pose]
        if self.narrow is None:
            return poses
        features = self.narrow(fine)  # (B, width, H/8, W/8)
        middle = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, K, 2)
        size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1.0)
        # grid_sample counts from -1 to 1 between the outer edges of the map. Each side has its own tensor: one tensor of both
        # would freeze the picture's size when the graph is traced.
        scale_x, scale_y = 2.0 / (fine.shape[3] * 8), 2.0 / (fine.shape[2] * 8)
        shift = torch.zeros_like(middle)
        for step in self.steps:
            x = middle[..., :1] + size[..., :1] * (shift[..., :1] + self.columns)  # (B, K, rows * columns)
            y = middle[..., 1:] + size[..., 1:] * (shift[..., 1:] + self.rows)
            grid = torch.stack([x * scale_x - 1, y * scale_y - 1], -1)  # (B, K, rows * columns, 2)
            sampled = F.grid_sample(features, grid, align_corners=False)  # (B, width, K, rows * columns)
            pose = pose + step(sampled.transpose(1, 2).flatten(2), pose.detach())
            poses.append(pose)
            # The next region lies around the refined pose: around the middle of its extent.
            places = pose.detach()[..., : 2 * KEYPOINTS].unflatten(-1, (2, KEYPOINTS))  # (B, K, 2, 17) x, y
            shift = (places.amax(-1) + places.amin(-1)) / 2
        return poses
