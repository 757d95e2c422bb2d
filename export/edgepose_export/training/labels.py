"""The losses against labels: centers of people, boxes, and keypoints by OKS."""

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose_export.data.batches import Batch
from edgepose_export.network.head import KEYPOINTS, PoseMaps
from edgepose_export.network.refinement import Refinement
from edgepose_export.training.assignment import Assignment, People, assign, coarse_at, keypoint_similarity, oks, people_in_cells
from edgepose_export.training.cells import cells_inside
from edgepose_export.training.recipe import LabelWeights

_FOCUS = 2.0
"""Power of the quality focal loss: cells that are nearly right weigh little."""


def label_losses(refinement: Refinement, maps: PoseMaps, batch: Batch, weights: LabelWeights) -> dict[str, Tensor]:
    """Return the weighted losses by name; all are means over people, so that crowded pictures do not dominate."""
    device = maps.center.device
    boxes, keypoints, areas, counts, ignored, regions = (
        torch.from_numpy(value).to(device)
        for value in (batch.boxes, batch.keypoints, batch.areas, batch.people, batch.ignored, batch.regions)
    )
    people = people_in_cells(boxes, keypoints, areas, counts)
    excluded = cells_inside(ignored, torch.arange(ignored.shape[1], device=device)[None] < regions[:, None], maps.center)
    if not len(people.picture):
        nobody = F.binary_cross_entropy_with_logits(maps.center, torch.zeros_like(maps.center), reduction="none")
        return {"center": weights.center * (nobody * torch.sigmoid(maps.center.detach()) ** _FOCUS * ~excluded).sum()}
    assigned = assign(maps, people)
    picture = people.picture[assigned.person]
    share = assigned.weight / assigned.weight.sum().clamp_min(1e-6)
    losses = {"center": weights.center * _center(maps, people, assigned, excluded)}
    if maps.box_size.shape[1]:  # a refiner has no boxes
        losses["box"] = weights.box * (share * _box(maps, people, assigned, picture)).sum()
    coarse = coarse_at(maps.coarse, picture, assigned.cell)
    distance = _relative_distance(coarse, people, assigned.person)
    losses["coarse"] = weights.coarse * (share * (1 - oks(coarse, people, assigned.person) + 0.2 * distance)).sum()
    target, counted = _heat_target(maps.heat, people)
    losses["heat"] = weights.heat * _heat(maps.heat, target, counted & ~excluded.expand_as(maps.heat), people)
    losses["offset"] = weights.offset * _offset(maps.offset, people)
    losses["refined"] = weights.refined * _refined(refinement, maps, people, assigned)
    return losses


def _bumps(height: int, width: int, place: Tensor, sigma: Tensor) -> Tensor:
    """Return Gaussians of height 1 around `place` (P, 2) y, x, sampled at cell centers: (P, H, W)."""
    y = torch.arange(height, device=place.device) + 0.5
    x = torch.arange(width, device=place.device) + 0.5
    rows = torch.exp(-(y - place[:, :1]).square() / (2 * sigma[:, None] ** 2))
    columns = torch.exp(-(x - place[:, 1:]).square() / (2 * sigma[:, None] ** 2))
    return rows[:, :, None] * columns[:, None, :]


def _center(maps: PoseMaps, people: People, assigned: Assignment, excluded: Tensor) -> Tensor:
    """Return the quality focal loss of the center map; the target is one bump per person, as high as its best cell's pose is good.

    Source: X. Li et al., "Generalized Focal Loss", NeurIPS 2020. The bump's width is the teacher's: sigma = max(1, 0.05 sqrt(area))
    cells.
    """
    height, width = maps.center.shape[2:]
    quality = torch.full_like(people.area, 0.1)
    quality[assigned.person[assigned.best]] = assigned.weight[assigned.best]
    # The floor keeps recall: a person with a bad pose is still a person.
    bumps = _bumps(height, width, people.center, (0.05 * people.area.sqrt()).clamp_min(1.0)) * (0.3 + 0.7 * quality)[:, None, None]
    target = torch.zeros_like(maps.center[:, 0])
    target = target.scatter_reduce(0, people.picture[:, None, None].expand_as(bumps), bumps, "amax")[:, None]
    loss = F.binary_cross_entropy_with_logits(maps.center, target, reduction="none")
    loss = loss * (target - torch.sigmoid(maps.center.detach())).abs() ** _FOCUS
    return (loss * (~excluded | (target > 0.1))).sum() / len(people.area)


def _box(maps: PoseMaps, people: People, assigned: Assignment, picture: Tensor) -> Tensor:
    """Return 1 - GIoU plus 0.2 x the relative error of height and width: (A,).

    Source of GIoU: H. Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019.
    """
    width = maps.center.shape[3]
    size = maps.box_size.flatten(2)[picture, :, assigned.cell].clamp_min(0.1)
    offset = maps.box_offset.flatten(2)[picture, :, assigned.cell]
    place = torch.stack([torch.div(assigned.cell, width, rounding_mode="floor"), assigned.cell % width], -1)
    center = place + offset
    goal_center, goal_size = people.center[assigned.person], people.size[assigned.person]
    low, high = center - size / 2, center + size / 2
    goal_low, goal_high = goal_center - goal_size / 2, goal_center + goal_size / 2
    inside = (torch.minimum(high, goal_high) - torch.maximum(low, goal_low)).clamp_min(0).prod(-1)
    union = size.prod(-1) + goal_size.prod(-1) - inside
    hull = (torch.maximum(high, goal_high) - torch.minimum(low, goal_low)).prod(-1)
    giou = inside / union - (hull - union) / hull.clamp_min(1e-6)
    return 1 - giou + 0.2 * (size / goal_size.clamp_min(1.0)).log().abs().sum(-1)


def _relative_distance(found: Tensor, people: People, index: Tensor) -> Tensor:
    """Return the mean distance of labeled keypoints in body sizes (root of the area): (A,). It has a slope where OKS is flat."""
    labeled = people.labeled[index]
    distance = (found - people.keypoints[index]).abs().sum(-1) / people.area[index].sqrt().clamp_min(1.0)[:, None]
    return (distance * labeled).sum(-1) / labeled.sum(-1).clamp_min(1)


def _heat_target(heat: Tensor, people: People) -> tuple[Tensor, Tensor]:
    """Return bumps at labeled keypoints (B, 17, H, W), and the cells that count: all but those in the box of a person whose keypoint is
    unlabeled."""
    height, width = heat.shape[2:]
    sigma = (0.032 * people.area.sqrt()).clamp_min(0.9)
    flat_sigma = sigma[:, None].expand(-1, KEYPOINTS).flatten()
    bumps = _bumps(height, width, people.keypoints.flatten(0, 1), flat_sigma).reshape(-1, KEYPOINTS, height, width)
    bumps = bumps * people.labeled[..., None, None]
    index = people.picture[:, None, None, None].expand_as(bumps)
    target = torch.zeros_like(heat).scatter_reduce(0, index, bumps, "amax")
    low, high = people.center - people.size / 2, people.center + people.size / 2
    y = torch.arange(height, device=heat.device) + 0.5
    x = torch.arange(width, device=heat.device) + 0.5
    body = ((y >= low[:, :1]) & (y <= high[:, :1]))[:, :, None] & ((x >= low[:, 1:]) & (x <= high[:, 1:]))[:, None, :]
    unknown = body[:, None] & (people.labeled == 0)[..., None, None]
    hidden = torch.zeros_like(heat).scatter_reduce(0, index, unknown.to(heat.dtype), "amax")
    return target, (hidden == 0) | (target > 0.1)


def _heat(heat: Tensor, target: Tensor, counted: Tensor, people: People) -> Tensor:
    """Return the quality focal loss of the heat maps, per labeled keypoint."""
    loss = F.binary_cross_entropy_with_logits(heat, target, reduction="none")
    loss = loss * (target - torch.sigmoid(heat.detach())).abs() ** _FOCUS
    return (loss * (counted | (target > 0.1))).sum() / people.labeled.sum().clamp_min(1)


def _offset(offset: Tensor, people: People) -> Tensor:
    """Return the L1 error of the offsets at the 3 x 3 cells around each labeled keypoint, in cells."""
    height, width = offset.shape[2:]
    steps = torch.arange(-1, 2, device=offset.device, dtype=torch.float32)
    around = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)  # (9, 2)
    cells = people.keypoints.floor()[:, :, None] + around  # (P, 17, 9, 2)
    inside = (cells >= 0).all(-1) & (cells[..., 0] < height) & (cells[..., 1] < width)
    weight = people.labeled[..., None] * inside
    flat = (cells[..., 0].clamp(0, height - 1) * width + cells[..., 1].clamp(0, width - 1)).to(torch.int64)  # (P, 17, 9)
    goal = people.keypoints[:, :, None] - cells  # (P, 17, 9, 2)
    maps = offset.reshape(len(offset), KEYPOINTS, 2, height * width)
    keypoint = torch.arange(KEYPOINTS, device=offset.device)[None, :, None]
    found = maps[people.picture[:, None, None], keypoint, :, flat]  # (P, 17, 9, 2)
    return ((found - goal).abs().sum(-1) * weight).sum() / weight.sum().clamp_min(1)


def _refined(refinement: Refinement, maps: PoseMaps, people: People, assigned: Assignment) -> Tensor:
    """Return 1 - OKS of the refined keypoints of each person's best cell, plus the error of their confidences."""
    best = assigned.best
    person, cell = assigned.person[best], assigned.cell[best]
    picture = people.picture[person]
    coarse = coarse_at(maps.coarse, picture, cell)
    heat = torch.sigmoid(maps.heat)
    total = maps.heat.new_zeros(())
    # People of one picture share its maps. One picture at a time keeps memory small and runs the code of inference.
    for number in picture.unique():
        mine = picture == number
        place, confidence = refinement(heat[number : number + 1], maps.offset[number : number + 1], coarse[mine][None])
        index = person[mine]
        similarity = oks(place[0], people, index)
        near = keypoint_similarity(place[0].detach(), people, index)
        confidence_error = F.binary_cross_entropy(confidence[0].clamp(1e-4, 1 - 1e-4), near, reduction="none")
        labeled = people.labeled[index]
        total = total + (1 - similarity + 0.2 * _relative_distance(place[0], people, index)).sum()
        total = total + 0.2 * ((confidence_error * labeled).sum(-1) / labeled.sum(-1).clamp_min(1)).sum()
    return total / max(len(person), 1)
