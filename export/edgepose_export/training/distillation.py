"""What the teacher tells the student: its features and its maps."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose_export.network.head import PoseMaps
from edgepose_export.network.model import GhostPose
from edgepose_export.training.recipe import Distillation


@dataclass(frozen=True)
class Seen:
    """Everything of one forward pass that losses look at."""

    blocks: list[Tensor]
    neck: list[Tensor]
    maps: PoseMaps | None


def look(network: GhostPose, x: Tensor, tapped: list[Tensor], count: int, maps: bool = True) -> Seen:
    """Run a network from block `count` on, keeping what losses look at; maps, where wanted, in float32."""
    blocks: list[Tensor] = []
    features = network.backbone.late(x, tapped, count, blocks)
    neck = network.neck.levels(*features)
    return Seen(blocks, list(neck), PoseMaps(*[value.float() for value in network.head(neck[2])]) if maps else None)


def distil(student: Seen, teacher: Seen, weights: Distillation, doubted: Tensor | None = None) -> dict[str, Tensor]:
    """Weighted losses by name.

    Args:
        doubted: bool (B, 1, H, W), cells in which the teacher's maps are not to be believed; None believes all of them.
    """
    losses: dict[str, Tensor] = {}
    if weights.blocks:
        pairs = zip(student.blocks, teacher.blocks, strict=True)
        losses["distil_blocks"] = weights.blocks * torch.stack([_unexplained(a, b) for a, b in pairs]).mean()
    if weights.neck:
        pairs = zip(student.neck, teacher.neck, strict=True)
        losses["distil_neck"] = weights.neck * torch.stack([_unexplained(a, b) for a, b in pairs]).mean()
    if weights.maps and student.maps is not None and teacher.maps is not None:
        losses["distil_maps"] = weights.maps * _maps(student.maps, teacher.maps, doubted)
    return losses


def _unexplained(ours: Tensor, theirs: Tensor) -> Tensor:
    """Squared error over the teacher's channel-centered variance: 1 is as bad as the channel means."""
    theirs = theirs.float()
    variance = (theirs - theirs.mean((0, 2, 3), keepdim=True)).square().mean()
    return (ours.float() - theirs).square().mean() / (variance + 1e-6)


def _maps(ours: PoseMaps, theirs: PoseMaps, doubted: Tensor | None) -> Tensor:
    """Cross-entropy of the probability maps above the teacher's own entropy, L1 of the others where somebody is."""
    believed = torch.ones_like(theirs.center) if doubted is None else (~doubted).to(theirs.center.dtype)
    center, heat = torch.sigmoid(theirs.center) * believed, torch.sigmoid(theirs.heat) * believed
    somebody = center / (center.sum() + 1.0)
    near = heat / (heat.sum() + 1.0)
    pairs = near.repeat_interleave(2, 1)
    return (
        _divergence(ours.center, theirs.center, believed)
        + _divergence(ours.heat, theirs.heat, believed)
        + 0.05 * ((ours.box_size - theirs.box_size).abs() * somebody).sum()
        + 0.2 * ((ours.box_offset - theirs.box_offset).abs() * somebody).sum()
        + 0.02 * ((ours.coarse - theirs.coarse).abs() * somebody).sum()
        + 0.5 * ((ours.offset - theirs.offset).abs() * pairs).sum()
    )


def _divergence(ours: Tensor, theirs: Tensor, believed: Tensor) -> Tensor:
    """Kullback-Leibler divergence of independent Bernoulli maps, a unit of the teacher's probability mass."""
    target = torch.sigmoid(theirs)
    entropy = F.binary_cross_entropy_with_logits(theirs, target, reduction="none")
    surplus = F.binary_cross_entropy_with_logits(ours, target, reduction="none") - entropy
    return (surplus * believed).sum() / ((target * believed).sum() + 1.0)
