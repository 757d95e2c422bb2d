"""Candidate-region refinement of keypoints inside the graph: the paper's "RCNN essence".

Around each coarse keypoint a window of its heat map is a candidate region. The window is convolved, weighted by how
far each cell lies from the coarse place, and turned into a better place and a confidence; repeated `iterations` times
with weights of their own. The teacher's own decoding (weight by a Gaussian of the distance, take the best cell, add its
offset) is the limit of a large `sharpness`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.network.head import KEYPOINTS


class RegionRefinement(nn.Module):
    """One iteration over windows of (2 radius + 1)^2 cells.

    Args:
        radius: half side of the window in cells.
        variance: initial variance in cells^2 of the Gaussian weight around the coarse place (the teacher's 0.3 of the map's side).
        sharpness: initial exponent; large values pick the single best cell, small ones average neighbours.
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
        side = torch.arange(-radius, radius + 1, dtype=torch.float32)
        grid_y, grid_x = torch.meshgrid(side, side, indexing="ij")
        self.grid: Tensor
        self.register_buffer("grid", torch.stack([grid_y, grid_x], -1).reshape(-1, 2), persistent=False)  # (S, 2) y, x

    def forward(self, heat: Tensor, offset: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Look again around each coarse keypoint.

        Args:
            heat: (B, 17, H, W), 0 to 1.
            offset: (B, 34, H, W) cells, (y, x) pairs.
            coarse: (B, K, 17, 2) y, x in cells.

        Returns:
            Places (B, K, 17, 2) y, x in cells, and confidences (B, K, 17).
        """
        batch, people = coarse.shape[0], coarse.shape[1]
        height, width = heat.shape[2], heat.shape[3]
        side = 2 * self.radius + 1
        cells = coarse.detach().round()[..., None, :] + self.grid  # (B, K, 17, S, 2)
        row = cells[..., 0].clamp(0, height - 1)
        column = cells[..., 1].clamp(0, width - 1)
        # A cell outside the map is read from the border, but must not win there.
        inside = ((row == cells[..., 0]) & (column == cells[..., 1])).to(heat.dtype)
        keypoint = torch.arange(KEYPOINTS, device=heat.device)[:, None]
        flat = row.to(torch.int64) * width + column.to(torch.int64)  # (B, K, 17, S)
        window = _pick(heat, flat + keypoint * (height * width)) * inside
        offset_y = _pick(offset, flat + 2 * keypoint * (height * width))
        offset_x = _pick(offset, flat + (2 * keypoint + 1) * (height * width))

        seen = torch.log(window.clamp_min(1e-6)).reshape(batch * people, KEYPOINTS, side, side)
        seen = self.convolution(seen).reshape(batch, people, KEYPOINTS, side * side)
        distance = (cells - coarse[..., None, :]).square().sum(-1)  # cells^2
        weight = seen - distance / self.log_variance.exp()[:, None]
        share = F.softmax(weight * self.log_sharpness.exp()[:, None], -1)  # (B, K, 17, S)
        place = torch.stack([(share * (cells[..., 0] + offset_y)).sum(-1), (share * (cells[..., 1] + offset_x)).sum(-1)], -1)
        return place, (share * window).sum(-1)


def _pick(maps: Tensor, index: Tensor) -> Tensor:
    """Values of (B, C, H, W) at flat indices (B, ...) over C, H, W."""
    flat = maps.flatten(1)
    return torch.gather(flat, 1, index.flatten(1)).reshape(index.shape)


class Refinement(nn.Module):
    """`iterations` looks, each around the places that the last one found."""

    def __init__(self, iterations: int, radius: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList([RegionRefinement(radius) for _ in range(iterations)])

    def forward(self, heat: Tensor, offset: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """As `RegionRefinement`; without iterations the coarse places with the heat of the cell that they lie in."""
        if not len(self.steps):
            cell = coarse.floor()
            row = cell[..., 0].clamp(0, heat.shape[2] - 1).to(torch.int64)
            column = cell[..., 1].clamp(0, heat.shape[3] - 1).to(torch.int64)
            keypoint = torch.arange(KEYPOINTS, device=heat.device)
            return coarse, _pick(heat, (keypoint * heat.shape[2] + row) * heat.shape[3] + column)
        place, confidence = coarse, coarse[..., 0]
        for step in self.steps:
            place, confidence = step(heat, offset, place)
        return place, confidence
