"""How good a second look is by itself: on the labelled person's own crop, whatever a first look may find."""

from dataclasses import replace

import numpy as np
import torch

from edgepose.pose.suppress import BODY_SHARE_OF_BOX, oks
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
                label, area = plan.labels.keypoints[0], plan.labels.areas[0]
                similar = oks(keypoints, label, area / BODY_SHARE_OF_BOX, np.asarray(label[:, 2] > 0, np.float32))  # of a box, it expects
                right += float((similar >= _THRESHOLDS).mean())
    return right / len(plans)
