"""How good a second look is by itself: on the labeled person's own crop, whatever a first look may find."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgepose.pose.suppress import BODY_SHARE_OF_BOX, oks
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans, Jitter
from edgepose_export.network.model import DeployedRefiner, GhostPose

_THRESHOLDS = np.arange(0.5, 1.0, 0.05)
_AT_ONCE = 16


def network_crop_accuracy(network: GhostPose, data: CocoPose, size: int) -> float:
    """`crop_accuracy` of a refiner in evaluation mode."""
    deployed = DeployedRefiner(network.eval())

    def look(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = deployed(torch.from_numpy(crops)).numpy()
        return found

    return crop_accuracy(look, network.spec.crop_margin, data, size)


def crop_accuracy(look: Callable[[NDArray[np.uint8]], NDArray[np.float32]], margin: float, data: CocoPose, size: int) -> float:
    """Share of people whose pose is right, 0 to 1: the mean over OKS thresholds 0.50, 0.55 … 0.95.

    COCO's average precision with boxes that are given and nobody to be confused with, so that what changes is the refiner.

    Args:
        look: keypoints (B, 17, 3) in crop pixels of crops, uint8 (B, S, S, 3) RGB.
        margin: side of the crop over the longer side of the box.
        data: labeled pictures.
        size: S, side of the crop in pixels.
    """
    plans = CropPlans(data, margin, Jitter(0, 0), fewest_keypoints=1)
    plain = replace(Augmentation.none(), top_left=0)
    rng = np.random.default_rng(0)  # nothing is left to chance, but the plans ask
    right = 0.0
    for first in range(0, len(plans), _AT_ONCE):
        made = [plans.plan(index, size, plain, rng) for index in range(first, min(first + _AT_ONCE, len(plans)))]
        crops = np.stack([paint(data, plan, size) for plan in made])
        found = look(crops)
        for plan, keypoints in zip(made, found, strict=True):
            if len(plan.labels.boxes):
                label, area = plan.labels.keypoints[0], plan.labels.areas[0]
                similar = oks(keypoints, label, area / BODY_SHARE_OF_BOX, np.asarray(label[:, 2] > 0, np.float32))  # of a box, it expects
                right += float((similar >= _THRESHOLDS).mean())
    return right / len(plans)
