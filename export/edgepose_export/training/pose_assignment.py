"""Which cells learn which person.

Task-aligned assignment: a person belongs to the cells that already find them best, by score and by overlap of the boxes (C. Feng et
al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021), as many as the overlaps add up to (Z. Ge et al., "OTA", CVPR 2021).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from edgepose_export.network.head import STRIDES, PoseMaps, boxes_around, corners_of

_SCORE_POWER, _OVERLAP_POWER = 0.5, 4.0
_MOST_CELLS = 10


@dataclass(frozen=True)
class LabeledPeople:
    """The labeled people of a batch, one after another.

    Attributes:
        picture: int64 (P,), index of the picture.
        boxes: (P, 4), x1 y1 x2 y2 in input pixels.
        keypoints: (P, 17, 3), x y v in input pixels.
        areas: (P,), px².
    """

    picture: Tensor
    boxes: Tensor
    keypoints: Tensor
    areas: Tensor

    @classmethod
    def of(cls, boxes: Tensor, keypoints: Tensor, areas: Tensor, counts: Tensor) -> "LabeledPeople":
        """Flatten padded labels (`edgepose_export.data.batches.Batch`)."""
        real = torch.arange(boxes.shape[1], device=boxes.device)[None] < counts[:, None]  # (B, P)
        picture = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(real)[real]
        return cls(picture, boxes[real], keypoints[real], areas[real])


@dataclass(frozen=True)
class PoseAssignment:
    """A pairs of a cell and the person that it learns.

    Attributes:
        person: (A,), index among the labeled people.
        cell: (A,), index among the cells of the person's picture.
        overlap: (A,), IoU of the cell's box and the label, detached: the score to learn.
    """

    person: Tensor
    cell: Tensor
    overlap: Tensor


@torch.no_grad()
def assign_cells(maps: PoseMaps, people: LabeledPeople) -> PoseAssignment:
    """Assign cells to people; a cell that several people want goes to the one with the greatest overlap."""
    x, y = cell_centers(maps)
    x1, y1, x2, y2 = (people.boxes[:, index, None] for index in range(4))
    inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)  # (P, N)
    # A person smaller than a cell may hold no cell's middle; the nearest cells of the finest level stand in.
    distance = ((x - (x1 + x2) / 2).square() + (y - (y1 + y2) / 2).square()).sqrt()
    inside |= distance < 0.75 * STRIDES[0]
    overlap = iou(boxes_at_cells(maps)[people.picture], people.boxes[:, None]) * inside  # (P, N)
    score = torch.sigmoid(maps.score)[people.picture]
    # Where no box overlaps yet, nearness decides.
    metric = score.pow(_SCORE_POWER) * overlap.pow(_OVERLAP_POWER) + 1e-9 / (1 + distance)
    metric = metric * inside
    best, cell = metric.topk(min(_MOST_CELLS, metric.shape[1]), 1)  # (P, k)
    overlaps = overlap.gather(1, cell)
    count = overlaps.sum(1).round().clamp(1, cell.shape[1])
    taken = (torch.arange(cell.shape[1], device=cell.device)[None] < count[:, None]) & (best > 0)
    person = torch.arange(len(cell), device=cell.device)[:, None].expand_as(cell)[taken]
    cell, overlaps = cell[taken], overlaps[taken]
    # A cell keeps the person with the greatest overlap.
    kept = best_of_each(people.picture[person] * maps.score.shape[1] + cell, overlaps)
    return PoseAssignment(person[kept], cell[kept], overlaps[kept])


def best_of_each(key: Tensor, value: Tensor) -> Tensor:
    """Return the index of the greatest value (N,) of each different key (N,), by rising key."""
    order = torch.argsort(value, descending=True)
    order = order[torch.argsort(key[order], stable=True)]
    first = torch.ones(len(order), dtype=torch.bool, device=key.device)
    first[1:] = key[order][1:] != key[order][:-1]
    return order[first]


def boxes_at_cells(maps: PoseMaps) -> Tensor:
    """Return the boxes of all cells, x1 y1 x2 y2 in input pixels: (B, N, 4)."""
    return boxes_around(_corners(maps), maps.box.transpose(1, 2))  # (N, 2) and (B, N, 4)


def cell_centers(maps: PoseMaps) -> tuple[Tensor, Tensor]:
    """Return x and y of the middle of each cell in input pixels: (N,) each."""
    x, y = (_corners(maps) + cell_sizes(maps)[:, None] / 2).unbind(-1)
    return x, y


def cell_sizes(maps: PoseMaps) -> Tensor:
    """Return the side of each cell in input pixels: (N,). A level has a quarter of the cells of the one before."""
    cells = maps.score.shape[1]
    counts = [cells * 16 // 21, cells * 4 // 21, cells // 21]
    return torch.cat([torch.full((count,), float(side)) for count, side in zip(counts, STRIDES, strict=True)]).to(maps.score.device)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes (..., 4), broadcast against each other."""
    common = _common(first, second)
    return common / (_area(first) + _area(second) - common).clamp_min(1e-6)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalized IoU of boxes (..., 4): H. Rezatofighi et al., CVPR 2019."""
    common = _common(first, second)
    union = (_area(first) + _area(second) - common).clamp_min(1e-6)
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).clamp_min(0).prod(-1).clamp_min(1e-6)
    return common / union - (hull - union) / hull


def _corners(maps: PoseMaps) -> Tensor:
    return corners_of(torch.arange(maps.score.shape[1], device=maps.score.device), maps.fine)  # (N, 2)


def _common(first: Tensor, second: Tensor) -> Tensor:
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    return (high - low).clamp_min(0).prod(-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)
