"""The losses of a refiner: heat maps against labels, and against the unchanged teacher."""

import math
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from edgepose_export.data.batches import Batch
from edgepose_export.network.lite_hrnet import STRIDE


class RefinerWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="refine"):
    """Weights of a refiner's losses. A loss of 1 is that of empty maps."""

    labels: Annotated[float, Meta(ge=0)] = 1.0
    """Squared error against Gaussians at labeled keypoints."""
    teacher: Annotated[float, Meta(ge=0)] = 0.0
    """Squared error against the teacher's maps, of keypoints without label too."""
    sigma_cells: Annotated[float, Meta(gt=0)] | None = None
    """Standard deviation of the Gaussians. The nearest to TinyPose's own maps are 1.25 at 128x96 and 2 at 256x192 (200 people); None
    takes what lies on the line through both in logarithms, by the height of the maps."""
    steepest_deg: Annotated[float, Meta(ge=0, le=180)] = 30.0
    """The teacher does not count in crops that are turned further than this, nor in crops of nobody: it knows upright people only."""

    def held(self) -> bool:
        """Return whether a teacher is used."""
        return bool(self.teacher)


def refiner_losses(heat: Tensor, teacher_heat: Tensor | None, batch: Batch, weights: RefinerWeights) -> dict[str, Tensor]:
    """Return the weighted losses by name.

    A hidden keypoint (v = 1) has the same target as a visible one. With squared error, the height of a peak comes to say how sure the
    network is of the place, which is what a confidence must mean; a lower target would make it say how visible the keypoint is. A
    keypoint that is not labeled may be anywhere, so only the teacher has a say there.

    Args:
        heat: heat maps of the network in training (B, 17, h, w).
        teacher_heat: those of the unchanged teacher for the same crops; None where there is none.
        batch: crops with one person each; a crop whose person is not labeled counts for the teacher alone.
        weights: of the losses; 0 leaves a loss out.
    """
    sigma = weights.sigma_cells or sigma_for(heat.shape[2])
    energy = torch.pi * sigma**2  # sum of the squares of a whole Gaussian
    losses: dict[str, Tensor] = {}
    if weights.labels:
        target, labeled = heat_targets(heat, batch, sigma)
        error = (heat - target).square().sum((2, 3))  # (B, 17)
        losses["labels"] = weights.labels * (error * labeled).sum() / (energy * labeled.sum().clamp_min(1))
    if weights.teacher and teacher_heat is not None:
        shows_nobody = (batch.keypoints[..., 2] < 0).any((1, 2))  # which the teacher has not learned to see
        trusted = torch.from_numpy((batch.turns_deg <= weights.steepest_deg) & ~shows_nobody).to(heat)[:, None]  # (B, 1)
        error = (heat - teacher_heat).square().sum((2, 3))
        losses["teacher"] = weights.teacher * (error * trusted).sum() / (energy * heat.shape[1] * trusted.sum().clamp_min(1))
    return losses


def sigma_for(height: int) -> float:
    """Return the standard deviation in cells of the Gaussians in maps of `height` cells."""
    return float(1.25 * (height / 32) ** math.log2(2 / 1.25))


def heat_targets(heat: Tensor, batch: Batch, sigma_cells: float) -> tuple[Tensor, Tensor]:
    """Return Gaussians of height 1 at the keypoints (B, 17, h, w), to a fraction of a cell, and which keypoints are labeled (B, 17).

    The map of a keypoint that is known to be absent (`edgepose_export.data.crops.ABSENT`) is empty.
    """
    count, keypoints, height, width = heat.shape
    places = torch.zeros((count, keypoints, 3))
    if batch.keypoints.shape[1]:
        places = torch.from_numpy(batch.keypoints[:, 0])  # all 0, so not labeled, in a crop without anybody
    places = places.to(heat)
    cells = places[..., :2] / STRIDE  # cell i stands for the position 4 i, see `edgepose_export.network.heatmap`
    x = torch.arange(width, device=heat.device) - cells[..., :1]  # (B, 17, w)
    y = torch.arange(height, device=heat.device) - cells[..., 1:]
    rows, columns = (torch.exp(-distance.square() / (2 * sigma_cells**2)) for distance in (y, x))
    present = (places[..., 2] > 0).to(heat)
    return present[..., None, None] * rows[..., :, None] * columns[..., None, :], (places[..., 2] != 0).to(heat)
