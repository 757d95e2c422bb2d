"""The accuracy of a refiner by itself: on crops around the labeled boxes, independent of a first stage."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.pose.suppress import BODY_SHARE_OF_BOX, oks
from edgepose_export.callbacks import Progress
from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans, Jitter
from edgepose_export.network.refiner import RefinerGraph, RefinerNetwork

_THRESHOLDS = np.arange(0.5, 1.0, 0.05)
_BATCH = 16


def network_crop_accuracy(network: RefinerNetwork, data: CocoPose, progress: Progress | None = None) -> float:
    """Return the `crop_accuracy` of a refiner in evaluation mode."""
    deployed = RefinerGraph(network.eval())

    def refine(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = deployed(torch.from_numpy(crops)).numpy()
        return found

    return crop_accuracy(refine, network.spec.crop_margin, data, (network.spec.crop_height, network.spec.crop_width), progress)


def crop_accuracy(
    refine: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    margin: float,
    data: CocoPose,
    size: warp.Canvas,
    progress: Progress | None = None,
) -> float:
    """Return the share of people whose pose is right, 0 to 1: the mean over OKS thresholds 0.50, 0.55 … 0.95.

    This is COCO's average precision with given boxes and no other people, so only the refiner changes it.

    Args:
        refine: maps crops, uint8 (B, H, W, 3) RGB, to keypoints (B, 17, 3) in crop pixels.
        margin: ratio of the crop's side to the longer side of the box.
        data: labeled pictures.
        size: of the crop, height and width in pixels.
        progress: called with the number of people done and the total.

    Raises:
        ConfigError: nobody is labeled, so there is nothing to measure.
    """
    plans = CropPlans(data, margin, Jitter(0, 0), fewest_keypoints=1)
    if not len(plans):
        raise ConfigError(f"none of the {len(data)} pictures has people with keypoints: there is nothing to measure against")
    plain = replace(Augmentation.none(), top_left=0)
    rng = np.random.default_rng(0)  # plans require one; here it decides nothing
    right = 0.0
    for first in range(0, len(plans), _BATCH):
        made = [plans.plan(index, size, plain, rng) for index in range(first, min(first + _BATCH, len(plans)))]
        crops = np.stack([paint(data, plan, size) for plan in made])
        found = refine(crops)
        for plan, keypoints in zip(made, found, strict=True):
            if len(plan.labels.boxes):
                label, area = plan.labels.keypoints[0], plan.labels.areas[0]
                similar = oks(
                    keypoints, label, area / BODY_SHARE_OF_BOX, np.asarray(label[:, 2] > 0, np.float32)
                )  # `oks` takes the area of a box
                right += float((similar >= _THRESHOLDS).mean())
        if progress is not None:
            progress(first + len(made), len(plans))
    return right / len(plans)
