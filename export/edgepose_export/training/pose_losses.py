"""The losses of a pose network: labels, and the hold of the unchanged teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose.person import OKS_SIGMAS
from edgepose_export.data.batches import Batch
from edgepose_export.network.candidates import take
from edgepose_export.network.head import KEYPOINTS, PoseMaps
from edgepose_export.network.pose_network import PoseNetwork, keypoints_of
from edgepose_export.training.pose_assignment import (
    LabeledPeople,
    assign_cells,
    best_of_each,
    boxes_at_cells,
    cell_centers,
    generalized_iou,
    iou,
)
from edgepose_export.training.recipe import PoseWeights

_FOCUS = 2.0
"""Power of the quality focal loss (X. Li et al., "Generalized Focal Loss", NeurIPS 2020): cells that are nearly right weigh little."""

_SEEN = 0.3
"""The teacher has seen a labeled person whom it finds with at least this score, at an IoU of 0.5."""

_UNLABELED_SHARE = 0.2
"""Weight of an unlabeled keypoint in the loss of the confidence; most of these are hidden or outside, some were only not labeled."""


def pose_losses(network: PoseNetwork, ours: PoseMaps, theirs: PoseMaps | None, batch: Batch, weights: PoseWeights) -> dict[str, Tensor]:
    """Return the weighted losses by name; all are means over people, so that crowded pictures do not dominate.

    Args:
        network: the network in training.
        ours: its raw outputs.
        theirs: the teacher's raw outputs; None without a hold.
        batch: labels.
        weights: of the losses.
    """
    device = ours.score.device
    boxes, keypoints, areas, counts, ignored, regions = (
        torch.from_numpy(value).to(device)
        for value in (batch.boxes, batch.keypoints, batch.areas, batch.people, batch.ignored, batch.regions)
    )
    people = LabeledPeople.of(boxes, keypoints, areas, counts)
    counted = ~cells_in(ours, ignored, torch.arange(ignored.shape[1], device=device)[None] < regions[:, None])  # (B, N)
    assigned = assign_cells(ours, people)
    picture = people.picture[assigned.person]
    target = torch.zeros_like(ours.score)
    target[picture, assigned.cell] = assigned.overlap
    counted[picture, assigned.cell] = True
    total = assigned.overlap.sum().clamp_min(1.0)
    losses: dict[str, Tensor] = {}
    if weights.score:
        losses["score"] = weights.score * (_quality_focal(ours.score, target) * counted).sum() / total
    if len(assigned.person):
        share = assigned.overlap.clamp_min(0.05)
        share = share / share.sum()
        found = boxes_at_cells(ours)[picture, assigned.cell]  # (A, 4)
        if weights.box:
            losses["box"] = weights.box * (share * (1 - generalized_iou(found, people.boxes[assigned.person]))).sum()
        pose = ours.keypoints[picture, :, assigned.cell]  # (A, 51)
        if weights.keypoints:
            coarse = _keypoint_loss(found.detach(), pose, people, assigned.person, share)
            losses["keypoints"] = weights.keypoints * coarse
        if weights.refined and network.spec.refinements:
            losses["refined"] = weights.refined * _refined(network, ours, people, assigned.person, assigned.cell, assigned.overlap)
    if theirs is not None:
        seen = _trusted(theirs, people)
        if weights.hold_score:
            losses["hold_score"] = weights.hold_score * _divergence(ours.score, theirs.score, seen)
        if weights.hold_box:
            losses["hold_box"] = weights.hold_box * _box_hold(ours, theirs, seen)
    return losses


def cells_in(maps: PoseMaps, boxes: Tensor, real: Tensor) -> Tensor:
    """Return the cells whose middle lies in a box: bool (B, N), for boxes (B, R, 4) of which `real` (B, R) count."""
    x, y = cell_centers(maps)
    inside = (x >= boxes[..., 0:1]) & (x <= boxes[..., 2:3]) & (y >= boxes[..., 1:2]) & (y <= boxes[..., 3:4])
    return (inside & real[..., None]).any(1)


def _quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    error = (torch.sigmoid(logits.detach()) - target).abs()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * error**_FOCUS


def _keypoint_loss(boxes: Tensor, pose: Tensor, people: LabeledPeople, person: Tensor, share: Tensor) -> Tensor:
    """Return the loss of poses (A, 51) in units of boxes (A, 4): position by OKS and distance, confidence by what turned out right."""
    found = keypoints_of(boxes, pose)
    labels, area = people.keypoints[person], people.areas[person].clamp_min(1.0)
    labeled = (labels[..., 2] > 0).to(pose.dtype)  # (A, 17)
    number = labeled.sum(1)
    squared = (found[..., :2] - labels[..., :2]).square().sum(-1)  # (A, 17)
    variances = (2 * torch.tensor(OKS_SIGMAS, device=pose.device)).square()
    right = torch.exp(-squared / (2 * area[:, None] * variances))
    distance = (squared / area[:, None] + 1e-8).sqrt()
    place = ((1 - right + 0.5 * distance) * labeled).sum(1) / number.clamp_min(1)
    logits = pose[:, 2 * KEYPOINTS :]
    target = torch.where(labeled > 0, right.detach(), torch.zeros_like(right))
    weight = torch.where(labeled > 0, torch.ones_like(labeled), torch.full_like(labeled, _UNLABELED_SHARE))
    sure = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    loss = place + 0.5 * sure.sum(1) / KEYPOINTS
    return (share * loss * (number > 0)).sum()


def _refined(network: PoseNetwork, maps: PoseMaps, people: LabeledPeople, person: Tensor, cell: Tensor, overlap: Tensor) -> Tensor:
    """Return the loss after each refinement, for the best cell of each person."""
    best = best_of_each(person, overlap)
    person, cell = person[best], cell[best]
    picture = people.picture[person]  # rising
    # One row of candidates for each picture, padded with cell 0.
    counts = torch.bincount(picture, minlength=len(maps.score))
    column = torch.arange(len(picture), device=picture.device) - (counts.cumsum(0) - counts)[picture]
    cells = torch.zeros(len(maps.score), int(counts.max()), dtype=torch.int64, device=picture.device)
    cells[picture, column] = cell
    boxes = boxes_at_cells(maps).detach()
    boxes = boxes.gather(1, cells[..., None].expand(-1, -1, 4))
    poses = network.refinement(maps.fine, boxes, take(maps.keypoints, cells))[1:]
    share = torch.full((len(person),), 1 / len(person), device=person.device)
    losses = [_keypoint_loss(boxes[picture, column], pose[picture, column], people, person, share) for pose in poses]
    return torch.stack(losses).mean()


@torch.no_grad()
def _trusted(theirs: PoseMaps, people: LabeledPeople) -> Tensor:
    """Return the cells in which the teacher counts: bool (B, N), all but those inside a labeled person whom it does not see.

    A teacher that is blind for people who lie, are turned or are seen from above would teach blindness. In a picture where it misses
    more people than it sees, such as a thermal one, it does not count at all: cells around the people would be held too.
    """
    trusted = torch.ones_like(theirs.score, dtype=torch.bool)
    if not len(people.picture):
        return trusted
    overlap = iou(boxes_at_cells(theirs)[people.picture], people.boxes[:, None])  # (P, N)
    score = (torch.sigmoid(theirs.score)[people.picture] * (overlap > 0.5)).amax(1)  # (P,)
    missed = score < _SEEN
    inside = cells_in(theirs, people.boxes[:, None], missed[:, None])  # (P, N), each person as a picture of their own
    missed_person, cell = inside.nonzero(as_tuple=True)
    trusted[people.picture[missed_person], cell] = False
    balance = torch.zeros(len(trusted), device=trusted.device).index_add_(0, people.picture, 1 - 2 * missed.float())
    trusted[balance < 0] = False
    return trusted


def _divergence(ours: Tensor, theirs: Tensor, counted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of independent Bernoulli variables, per unit of the teacher's probability mass."""
    target = torch.sigmoid(theirs)
    entropy = F.binary_cross_entropy_with_logits(theirs, target, reduction="none")
    surplus = F.binary_cross_entropy_with_logits(ours, target, reduction="none") - entropy
    return (surplus * counted).sum() / ((target * counted).sum() + 1.0)


def _box_hold(ours: PoseMaps, theirs: PoseMaps, counted: Tensor) -> Tensor:
    """Return how far boxes differ where the teacher sees a person, weighted by its score."""
    score = torch.sigmoid(theirs.score) * counted
    picture, cell = (score > 0.1).nonzero(as_tuple=True)
    if not len(picture):
        return ours.box.sum() * 0
    weight = score[picture, cell]
    same = generalized_iou(boxes_at_cells(ours)[picture, cell], boxes_at_cells(theirs)[picture, cell])
    return (weight * (1 - same)).sum() / weight.sum()


def unexplained(ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """Return the mean squared error of features over the teacher's channel-centered variance: 1 is as bad as the channel means."""
    shares = []
    for a, b in zip(ours, theirs, strict=True):
        b = b.float()
        variance = (b - b.mean((0, 2, 3), keepdim=True)).square().mean()
        shares.append((a.float() - b).square().mean() / (variance + 1e-6))
    return torch.stack(shares).mean()
