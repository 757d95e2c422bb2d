"""Candidate-region refinement of keypoints inside the graph: the paper's "RCNN essence".

A window of the heat map around each coarse keypoint is a candidate region. The window is convolved, each cell is weighted by a
Gaussian of its distance from the coarse position, and a softmax over the cells gives a better position and a confidence. This
repeats `iterations` times, each with its own weights. The teacher's decoding (weight by the Gaussian, take the best cell, add its
offset) is the limit of a large `sharpness`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.head import KEYPOINTS


class RegionRefinement(nn.Module):
    """One iteration of the refinement over windows of S x S cells, S = 2 radius + 1.

    Args:
        radius: half side of the window in cells.
        variance: initial variance in cells^2 of the Gaussian weight around the coarse position (the teacher's 0.3 of the map's side).
        sharpness: initial factor inside the softmax; large values pick the best cell, small ones average its neighbors.
    """

    def __init__(self, radius: int, *, variance: float = 18.0, sharpness: float = 8.0) -> None:
        super().__init__()
        self.radius = radius
        self.convolution = nn.Conv2d(KEYPOINTS, KEYPOINTS, 3, padding=1, groups=KEYPOINTS, bias=False)
        with torch.no_grad():
            self.convolution.weight.zero_()
            self.convolution.weight[:, :, 1, 1] = 1.0
        self.log_variance = nn.Parameter(torch.full((KEYPOINTS,), variance).log())
        self.log_sharpness = nn.Parameter(torch.full((KEYPOINTS,), sharpness).log())
        self.reach: Tensor
        self.register_buffer("reach", torch.arange(-radius, radius + 1, dtype=torch.float32), persistent=False)  # (S,)

    def forward(self, heat: Tensor, offset: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Refine each coarse keypoint in the window around it.

        Args:
            heat: (B, 17, H, W), 0 to 1.
            offset: (B, 34, H, W) cells, (y, x) pairs.
            coarse: (B, K, 17, 2) y, x in cells.

        Returns:
            Positions (B, K, 17, 2) y, x in cells, and confidences (B, K, 17).
        """
        height, width = heat.shape[2], heat.shape[3]
        # Rows and columns of a window stay separate as long as possible: S numbers each instead of S x S pairs.
        y, x = coarse[..., :1], coarse[..., 1:]  # (B, K, 17, 1)
        row, column = y.detach().round() + self.reach, x.detach().round() + self.reach  # (B, K, 17, S)
        near_row, near_column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        # A cell outside the map is read from the border, and must not win.
        inside = _grid((row == near_row).to(heat.dtype), (column == near_column).to(heat.dtype), torch.mul)
        flat = _grid(near_row.to(torch.int64) * width, near_column.to(torch.int64), torch.add)  # (B, K, 17, S, S)
        first = torch.arange(KEYPOINTS, device=heat.device)[:, None, None] * (height * width)
        window = _pick(heat, flat + first) * inside  # (B, K, 17, S, S)
        offset_y = _pick(offset, flat + 2 * first)
        offset_x = _pick(offset, flat + (2 * first + height * width))

        evidence = self.convolution(torch.log(window.clamp_min(1e-6)).flatten(0, 1)).reshape(window.shape)
        distance = _grid((row - y).square(), (column - x).square(), torch.add)  # cells^2
        weight = evidence - distance / self.log_variance.exp()[:, None, None]
        share = F.softmax((weight * self.log_sharpness.exp()[:, None, None]).flatten(3), -1).reshape(window.shape)  # sums to 1
        refined_y = (share * (row[..., :, None] + offset_y)).sum((-2, -1))  # (B, K, 17)
        refined_x = (share * (column[..., None, :] + offset_x)).sum((-2, -1))
        return torch.stack([refined_y, refined_x], -1), (share * window).sum((-2, -1))


def _grid(rows: Tensor, columns: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Join every row with every column: (..., S) and (..., S) -> (..., S, S)."""
    return join(rows[..., :, None], columns[..., None, :])


def _pick(maps: Tensor, index: Tensor) -> Tensor:
    """Return the values of (B, C, H, W) at flat indices (B, ...) over C, H, W."""
    flat = maps.flatten(1)
    return torch.gather(flat, 1, index.flatten(1)).reshape(index.shape)


class Refinement(nn.Module):
    """`iterations` steps of refinement, each around the positions of the previous one."""

    def __init__(self, iterations: int, radius: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList([RegionRefinement(radius) for _ in range(iterations)])

    def forward(self, heat: Tensor, offset: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Refine as `RegionRefinement` does; without iterations, return the coarse positions with the heat of their cells."""
        if not len(self.steps):
            cell = coarse.floor()
            row = cell[..., 0].clamp(0, heat.shape[2] - 1).to(torch.int64)
            column = cell[..., 1].clamp(0, heat.shape[3] - 1).to(torch.int64)
            keypoint = torch.arange(KEYPOINTS, device=heat.device)
            return coarse, _pick(heat, (keypoint * heat.shape[2] + row) * heat.shape[3] + column)
        position, confidence = coarse, coarse[..., 0]
        for step in self.steps:
            position, confidence = step(heat, offset, position)
        return position, confidence
