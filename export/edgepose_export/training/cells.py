"""Cells of the head's grid inside boxes, and the tilt of people's trunks."""

import torch
from torch import Tensor

from edgepose_export.network.candidates import STRIDE


def cells_inside(boxes: Tensor, real: Tensor, like: Tensor) -> Tensor:
    """Return the cells whose center lies in a box: bool (B, 1, H, W).

    Args:
        boxes: (B, N, 4) x1 y1 x2 y2 in pixels of the input.
        real: bool (B, N), the boxes that count.
        like: (B, C, H, W), a map of the grid.
    """
    height, width = like.shape[2:]
    y = torch.arange(height, device=like.device) + 0.5
    x = torch.arange(width, device=like.device) + 0.5
    cells = boxes / STRIDE
    rows = (y >= cells[..., 1:2]) & (y <= cells[..., 3:4]) & real[..., None]  # (B, N, H)
    columns = (x >= cells[..., 0:1]) & (x <= cells[..., 2:3])  # (B, N, W)
    return torch.einsum("bnh,bnw->bhw", rows.float(), columns.float())[:, None] > 0


def trunk_tilt_deg(keypoints: Tensor) -> Tensor:
    """Return the angle of people's trunks from upright, 0 to 180 degrees (B, N); 0 where no shoulder or no hip is labeled.

    Args:
        keypoints: (B, N, 17, 3) x y v, y downward.
    """
    ends = []
    for pair in ((5, 6), (11, 12)):  # shoulders, hips
        known = (keypoints[:, :, pair, 2] > 0).to(keypoints.dtype)
        ends.append((keypoints[:, :, pair, :2] * known[..., None]).sum(2) / known.sum(2, keepdim=True).clamp_min(1))
    known = (keypoints[:, :, (5, 6), 2] > 0).any(2) & (keypoints[:, :, (11, 12), 2] > 0).any(2)
    down = ends[1] - ends[0]
    return torch.where(known, torch.rad2deg(torch.atan2(down[..., 0].abs(), down[..., 1])), 0.0)
