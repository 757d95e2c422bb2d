"""Cells of the head's grid that lie inside boxes."""

import torch
from torch import Tensor

from export.network.candidates import STRIDE


def cells_inside(boxes: Tensor, real: Tensor, like: Tensor) -> Tensor:
    """Cells whose middle lies in a box: bool (B, 1, H, W).

    Args:
        boxes: (B, N, 4) x1 y1 x2 y2 in pixels of the input.
        real: bool (B, N), which of them count.
        like: (B, C, H, W), a map of the grid.
    """
    height, width = like.shape[2:]
    y = torch.arange(height, device=like.device) + 0.5
    x = torch.arange(width, device=like.device) + 0.5
    cells = boxes / STRIDE
    rows = (y >= cells[..., 1:2]) & (y <= cells[..., 3:4]) & real[..., None]  # (B, N, H)
    columns = (x >= cells[..., 0:1]) & (x <= cells[..., 2:3])  # (B, N, W)
    return torch.einsum("bnh,bnw->bhw", rows.float(), columns.float())[:, None] > 0
