"""The best candidates of a picture, chosen inside the graph: the highest scores of all cells, without repeated finds of one person."""

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose_export.network.head import PoseMaps, boxes_around, corners_of

_ROUNDS = 3
"""Rounds of suppression: a find that is itself suppressed suppresses nobody. Three rounds change no figure against many."""

_NOBODY = -100.0
"""Logit of what is no candidate."""


def best_candidates(maps: PoseMaps, considered: int, kept: int, iou: float) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the best candidates of each picture.

    A person is found by several cells. Suppression in the form of matrices has no loop over finds (Z. Zheng et al., "Enhancing
    Geometric Factors in Model Learning and Inference for Object Detection and Instance Segmentation", 2020: Cluster-NMS), so that
    every backend can run it, and the refinement then works on people, not on repeated finds.

    Args:
        maps: raw outputs.
        considered: M, number of cells with the highest scores that take part, at least `kept`.
        kept: K, number of candidates that remain.
        iou: of two boxes that overlap more than this, the one with the lower score is suppressed.

    Returns:
        Logits (B, K), cells (B, K) and boxes (B, K, 4) x1 y1 x2 y2 in input pixels; a suppressed find has a logit of about -100,
        and so has one that fills up a picture of fewer than M cells.
    """
    # A small picture has fewer cells than M. A smaller M for these would be frozen when the graph is traced.
    missing = torch.full_like(maps.score[:, :1], _NOBODY).expand(-1, considered)
    logit, cell = torch.topk(torch.cat([maps.score, missing], 1), considered, dim=1)  # (B, M), falling
    cell = torch.where(logit > _NOBODY, cell, 0)
    boxes = boxes_of(maps, cell)  # (B, M, 4)
    # overlaps[m, n]: the find m has a higher score than n, and their boxes overlap too much.
    overlaps = torch.triu(_overlap(boxes, iou).to(logit.dtype), 1)  # (B, M, M)
    stays = torch.ones_like(logit)
    for _ in range(_ROUNDS):
        stays = 1 - (stays[:, None] @ overlaps)[:, 0].clamp_max(1)  # (B, M): the sum counts who suppresses a find
    logit, order = torch.topk(logit + _NOBODY * (1 - stays), kept, dim=1)
    return logit, torch.gather(cell, 1, order), torch.gather(boxes, 1, order[..., None].expand(-1, -1, 4))


def boxes_of(maps: PoseMaps, cell: Tensor) -> Tensor:
    """Return the boxes (B, K, 4) x1 y1 x2 y2 of cells (B, K), in input pixels."""
    return boxes_around(corners_of(cell, maps.fine), take(maps.box, cell))  # (B, K, 2) and (B, K, 4)


def take(maps: Tensor, cell: Tensor) -> Tensor:
    """Return the values of (B, C, N) at cells (B, K): (B, K, C)."""
    return torch.gather(maps, 2, cell[:, None].expand(-1, maps.shape[1], -1)).transpose(1, 2)


def _overlap(boxes: Tensor, iou: float) -> Tensor:
    """Return whether the IoU of every two boxes of a picture is above `iou`: (B, M, 4) -> bool (B, M, M).

    It is, where (1 + iou) * common > iou * (area + area): no division, and half the operations on M x M numbers.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)  # (B, M) each
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    common = F.relu(width) * F.relu(height)  # (B, M, M)
    share = (iou / (1 + iou)) * (x2 - x1) * (y2 - y1)
    return common > share[:, :, None] + share[:, None]
