"""How good a second look is by itself: on the labelled person's own crop, whatever a first look may find."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgepose.person import OKS_SIGMAS
from export.data.augment import Augmentation, paint
from export.data.coco import CocoPose
from export.data.crops import CropPlans, Jitter
from export.network.model import DeployedRefiner, GhostPose

_THRESHOLDS = np.arange(0.5, 1.0, 0.05)
_AT_ONCE = 16


def crop_accuracy(network: GhostPose, data: CocoPose, size: int) -> float:
    """Share of people whose pose is right, 0 to 1: the mean over OKS thresholds 0.50, 0.55 … 0.95.

    COCO's average precision with boxes that are given and nobody to be confused with, so that what changes is the refiner.

    Args:
        network: a refiner, in evaluation mode.
        data: labelled pictures.
        size: side of the crop in pixels.
    """
    plans = CropPlans(data, network.spec.crop_margin, Jitter(0, 0), fewest_keypoints=1)
    plain = replace(Augmentation.none(), top_left=0)
    rng = np.random.default_rng(0)  # nothing is left to chance, but the plans ask
    deployed = DeployedRefiner(network.eval())
    right = 0.0
    for first in range(0, len(plans), _AT_ONCE):
        made = [plans.plan(index, size, plain, rng) for index in range(first, min(first + _AT_ONCE, len(plans)))]
        crops = np.stack([paint(data, plan, size) for plan in made])
        with torch.inference_mode():
            found = deployed(torch.from_numpy(crops)).numpy()
        for plan, keypoints in zip(made, found, strict=True):
            if len(plan.labels.boxes):
                right += float((_oks(keypoints, plan.labels.keypoints[0], float(plan.labels.areas[0])) >= _THRESHOLDS).mean())
    return right / len(plans)


def _oks(found: NDArray[np.float32], label: NDArray[np.float32], area: float) -> float:
    """Object keypoint similarity of (17, 3) and (17, 3), over the labelled keypoints."""
    seen = label[:, 2] > 0
    squared = ((found[:, :2] - label[:, :2]) ** 2).sum(1)
    likeness = np.exp(-squared / (2 * max(area, 1.0) * (2 * np.array(OKS_SIGMAS)) ** 2))
    return float(likeness[seen].mean()) if seen.any() else 0.0
