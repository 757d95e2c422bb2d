"""Distillation from the teacher to the student: features after the frozen blocks, and the maps of the head."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose.errors import ConfigError
from edgepose_export.data.batches import Batch
from edgepose_export.network.head import PoseMaps
from edgepose_export.network.model import GhostPose, load_weights, read_checkpoint
from edgepose_export.network.spec import NetworkSpec
from edgepose_export.training.cells import cells_inside, trunk_tilt_deg
from edgepose_export.training.recipe import DistillationWeights, Recipe


@dataclass(frozen=True)
class ForwardPass:
    """The tensors of one forward pass that losses compare.

    Attributes:
        blocks: outputs of the blocks after the frozen ones, (B, C, H, W) each.
        neck: smoothed maps of the pyramid at strides 16, 8 and 4.
        maps: outputs of the head in float32; None where no loss needs them.
    """

    blocks: list[Tensor]
    neck: list[Tensor]
    maps: PoseMaps | None


def load_teacher(start: Path, recipe: Recipe, device: torch.device) -> GhostPose | None:
    """Load the frozen teacher of a checkpoint; None where it holds none and no phase distills.

    Raises:
        ConfigError: the file is no checkpoint, or a phase distills and the checkpoint holds no teacher.
    """
    checkpoint = read_checkpoint(start)
    if "teacher" not in checkpoint:
        distilling = next((phase.name for phase in recipe.phases if phase.distillation.any()), None)
        if distilling is None:
            return None
        raise ConfigError(
            f"{start} holds no teacher, and phase {distilling} of recipe {recipe.name} distills from one; expected a checkpoint that "
            "`edgepose-export ghostify` wrote (its --student takes trained weights, such as a shipped checkpoint)"
        )
    teacher = GhostPose(msgspec.convert(checkpoint["teacher"]["spec"], NetworkSpec))
    load_weights(teacher, checkpoint["teacher"]["state"], str(start))
    teacher.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher


def forward_from(network: GhostPose, x: Tensor, tapped: list[Tensor], count: int, maps: bool = True) -> ForwardPass:
    """Run a network from block `count` on and keep the tensors that losses compare.

    Args:
        network: student or teacher.
        x: (B, C, H, W), output of block `count - 1`.
        tapped: features that earlier blocks gave to the neck.
        count: number of blocks that have run.
        maps: whether a loss needs the head.
    """
    blocks: list[Tensor] = []
    features = network.backbone.late(x, tapped, count, blocks)
    neck = network.neck.levels(*features)
    return ForwardPass(blocks, list(neck), PoseMaps(*[value.float() for value in network.head(neck[2])]) if maps else None)


def distill(
    student: ForwardPass, teacher: ForwardPass, weights: DistillationWeights, distrusted: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the weighted losses by name.

    Args:
        student: pass of the network in training.
        teacher: pass of the teacher on the same batch.
        weights: of the losses; 0 leaves a loss out.
        distrusted: bool (B, 1, H, W), cells in which the teacher's maps do not count; None counts all.
    """
    losses: dict[str, Tensor] = {}
    if weights.blocks:
        pairs = zip(student.blocks, teacher.blocks, strict=True)
        losses["distill_blocks"] = weights.blocks * torch.stack([_unexplained(a, b) for a, b in pairs]).mean()
    if weights.neck:
        pairs = zip(student.neck, teacher.neck, strict=True)
        losses["distill_neck"] = weights.neck * torch.stack([_unexplained(a, b) for a, b in pairs]).mean()
    if weights.maps and student.maps is not None and teacher.maps is not None:
        losses["distill_maps"] = weights.maps * _maps(student.maps, teacher.maps, distrusted)
    return losses


def distrusted_cells(batch: Batch, weights: DistillationWeights, like: Tensor) -> Tensor | None:
    """Return the cells of people whom the teacher misses, too large or lying: bool (B, 1, H, W); None where all count.

    Args:
        batch: labels, in pixels of the input.
        weights: limits of what the teacher finds (`largest_px`, `steepest_deg`).
        like: (B, C, H, W), a map of the grid.
    """
    if not (weights.largest_px or weights.steepest_deg):
        return None
    boxes = torch.from_numpy(batch.boxes).to(like.device)  # (B, P, 4)
    missed = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=like.device)  # (B, P)
    if weights.largest_px:
        missed |= (boxes[..., 2:] - boxes[..., :2]).amax(-1) > weights.largest_px
    if weights.steepest_deg:
        missed |= trunk_tilt_deg(torch.from_numpy(batch.keypoints).to(like.device)) > weights.steepest_deg
    return cells_inside(boxes, missed, like)


def _unexplained(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the squared error over the teacher's channel-centered variance: 1 is as bad as the channel means."""
    theirs = theirs.float()
    variance = (theirs - theirs.mean((0, 2, 3), keepdim=True)).square().mean()
    return (ours.float() - theirs).square().mean() / (variance + 1e-6)


def _maps(ours: PoseMaps, theirs: PoseMaps, distrusted: Tensor | None) -> Tensor:
    """Return the divergence of the probability maps, plus the L1 error of the other maps weighted by the teacher's probability."""
    counted = torch.ones_like(theirs.center) if distrusted is None else (~distrusted).to(theirs.center.dtype)  # (B, 1, H, W)
    center, heat = torch.sigmoid(theirs.center) * counted, torch.sigmoid(theirs.heat) * counted
    at_people = center / (center.sum() + 1.0)  # (B, 1, H, W)
    at_keypoints = heat / (heat.sum() + 1.0)  # (B, 17, H, W)
    pairs = at_keypoints.repeat_interleave(2, 1)  # (B, 34, H, W)
    return (
        _divergence(ours.center, theirs.center, counted)
        + _divergence(ours.heat, theirs.heat, counted)
        + 0.05 * ((ours.box_size - theirs.box_size).abs() * at_people).sum()
        + 0.2 * ((ours.box_offset - theirs.box_offset).abs() * at_people).sum()
        + 0.02 * ((ours.coarse - theirs.coarse).abs() * at_people).sum()
        + 0.5 * ((ours.offset - theirs.offset).abs() * pairs).sum()
    )


def _divergence(ours: Tensor, theirs: Tensor, counted: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of independent Bernoulli maps, per unit of the teacher's probability mass."""
    target = torch.sigmoid(theirs)
    entropy = F.binary_cross_entropy_with_logits(theirs, target, reduction="none")
    surplus = F.binary_cross_entropy_with_logits(ours, target, reduction="none") - entropy
    return (surplus * counted).sum() / ((target * counted).sum() + 1.0)
