"""Task-aligned assignment of grid cells (stride 4) to labeled people.

Source: C. Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, with OKS in place of IoU: a
person gets the cells that score high *and* place the keypoints well, so that ranking and precision are learned together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from edgepose.person import OKS_SIGMAS
from edgepose_export.network.candidates import STRIDE
from edgepose_export.network.head import KEYPOINTS, PoseMaps

SCORE_POWER = 0.5
SIMILARITY_POWER = 4.0
CELLS_PER_PERSON = 9


@dataclass(frozen=True)
class People:
    """All labeled people of a batch, flat, in cells of stride 4.

    Attributes:
        picture: int64 (P,), index of the picture of each.
        center: (P, 2) y, x of the box center.
        size: (P, 2) height, width of the box.
        area: (P,) cells^2, the scale of OKS.
        keypoints: (P, 17, 2) y, x.
        labeled: (P, 17), 1 where a keypoint is labeled.
    """

    picture: Tensor
    center: Tensor
    size: Tensor
    area: Tensor
    keypoints: Tensor
    labeled: Tensor


@dataclass(frozen=True)
class Assignment:
    """The cells assigned to people, flat.

    Attributes:
        person: int64 (A,), index into `People`.
        cell: int64 (A,), flat index within the picture's grid.
        weight: (A,), alignment relative to the person's best cell, times that cell's OKS: 0 to 1.
        best: bool (A,), the person's best cell.
    """

    person: Tensor
    cell: Tensor
    weight: Tensor
    best: Tensor


def keypoint_similarity(found: Tensor, people: People, index: Tensor) -> Tensor:
    """Return COCO's similarity of each keypoint of `found` (A, 17, 2), in cells, with that of people `index` (A,): (A, 17), 0 to 1."""
    sigmas = torch.tensor(OKS_SIGMAS, device=found.device)
    squared = (found - people.keypoints[index]).square().sum(-1)
    return torch.exp(-squared / (2 * people.area[index][:, None].clamp_min(1.0) * (2 * sigmas) ** 2))


def oks(found: Tensor, people: People, index: Tensor) -> Tensor:
    """Return the object keypoint similarity (A,), 0 to 1; differentiable. Unlabeled keypoints do not count."""
    labeled = people.labeled[index]  # (A, 17)
    return (keypoint_similarity(found, people, index) * labeled).sum(-1) / labeled.sum(-1).clamp_min(1)


def assign(maps: PoseMaps, people: People) -> Assignment:
    """Assign to each person the `CELLS_PER_PERSON` best aligned cells near the center of the box.

    Alignment is `score ** SCORE_POWER * OKS ** SIMILARITY_POWER` of the coarse keypoints. No gradient flows.
    """
    height, width = maps.center.shape[2:]
    device = maps.center.device
    with torch.no_grad():
        offsets = torch.arange(-3, 4, device=device, dtype=torch.float32)
        grid = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)  # (49, 2)
        cells = people.center.floor()[:, None] + grid  # (P, 49, 2)
        radius = (0.08 * people.area.sqrt()).clamp(1.0, 3.0)
        near = (cells + 0.5 - people.center[:, None]).abs().amax(-1) <= radius[:, None] + 0.5
        near &= (cells >= 0).all(-1) & (cells[..., 0] < height) & (cells[..., 1] < width)
        flat = (cells[..., 0].clamp(0, height - 1) * width + cells[..., 1].clamp(0, width - 1)).to(torch.int64)  # (P, 49)
        count = flat.shape[1]
        index = torch.arange(len(flat), device=device)
        coarse = coarse_at(maps.coarse, people.picture.repeat_interleave(count), flat.flatten())
        similarity = oks(coarse, people, index.repeat_interleave(count)).reshape(-1, count)  # (P, 49)
        score = torch.sigmoid(maps.center.flatten(1)[people.picture[:, None], flat])
        alignment = score**SCORE_POWER * similarity**SIMILARITY_POWER + 1e-9
        alignment = torch.where(near, alignment, torch.zeros_like(alignment))
        value, chosen = alignment.topk(CELLS_PER_PERSON, dim=1)  # (P, 9)
        weight = value / value[:, :1].clamp_min(1e-9) * similarity.gather(1, chosen[:, :1]).clamp_min(0.1)
        taken = value > 0
        best = torch.zeros_like(taken)
        best[:, 0] = taken[:, 0]
        person = index[:, None].expand_as(chosen)
    return Assignment(person[taken], flat.gather(1, chosen)[taken], weight[taken], best[taken])


def coarse_at(coarse: Tensor, picture: Tensor, cell: Tensor) -> Tensor:
    """Return the coarse keypoints (A, 17, 2) y, x in cells that flat cells `cell` (A,) of pictures `picture` (A,) predict."""
    width = coarse.shape[3]
    values = coarse.flatten(2)[picture, :, cell].reshape(-1, KEYPOINTS, 2)
    place = torch.stack([torch.div(cell, width, rounding_mode="floor"), cell % width], -1).to(values.dtype)
    return values + place[:, None]


def people_in_cells(boxes: Tensor, keypoints: Tensor, areas: Tensor, counts: Tensor) -> People:
    """Flatten padded labels in pixels (`edgepose_export.data.batches.Batch`) into `People` in cells."""
    real = torch.arange(boxes.shape[1], device=boxes.device)[None] < counts[:, None]  # (B, P)
    picture = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(real)[real]
    boxes, keypoints, areas = boxes[real] / STRIDE, keypoints[real], areas[real] / STRIDE**2
    center = (boxes[:, :2] + boxes[:, 2:]).flip(1) / 2
    size = (boxes[:, 2:] - boxes[:, :2]).flip(1)
    return People(picture, center, size, areas, keypoints[..., :2].flip(2) / STRIDE, (keypoints[..., 2] > 0).to(boxes.dtype))
