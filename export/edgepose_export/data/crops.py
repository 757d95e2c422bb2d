"""Crops to train a refiner on: one labeled person each, placed as the first stage would place the crop."""

from dataclasses import dataclass, replace

import numpy as np

from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, Part, PicturePlan, PicturePlans, choose_appearance
from edgepose_export.data.coco import CocoPose, sample_labels
from edgepose_export.network.spec import NetworkSpec


@dataclass(frozen=True, slots=True)
class Jitter:
    """Differences between the first stage's box and the labeled one: standard deviations, as shares of its longer side.

    573 detections of the default model in training pictures differ by 0.06 horizontally, 0.09 vertically and 0.15 in size;
    without the few that hold half a person, by 0.03, 0.03 and 0.07.
    """

    shift: float = 0.05
    size: float = 0.12


def plans_for(spec: NetworkSpec, data: CocoPose) -> "PicturePlans | CropPlans":
    """Return the plans that a network trains on: whole pictures, or a refiner's crops."""
    return PicturePlans(data) if spec.task == "pose" else CropPlans(data, spec.crop_margin)


class CropPlans:
    """Plans of crops, one per person, for `edgepose_export.data.batches.Batches`.

    The crop is what the runtime would cut for a square crop (`edgepose/pose/regions.py`): around the middle of the box, with the
    longer side times `margin`. Only that person is labeled; everything else is an ignore region.

    Args:
        data: labeled pictures.
        margin: ratio of the crop's side to the longer side of the box.
        jitter: random error of the box; `Jitter(0, 0)` uses the labeled box.
        fewest_keypoints: people with fewer labeled keypoints are left out, because they teach little.
    """

    def __init__(self, data: CocoPose, margin: float, jitter: Jitter | None = None, *, fewest_keypoints: int = 4) -> None:
        self._data = data
        self._margin = margin
        self._jitter = jitter or Jitter()
        self._people = [
            (index, person)
            for index, picture in enumerate(data)
            for person in range(len(picture.boxes))
            if (picture.keypoints[person, :, 2] > 0).sum() >= fewest_keypoints
        ]

    def __len__(self) -> int:
        return len(self._people)

    def plan(self, index: int, size: int, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
        """Plan one crop of `size` pixels."""
        number, person = self._people[index]
        picture = self._data[number]
        box = picture.boxes[person].astype(np.float64)
        longer = float((box[2:] - box[:2]).max())
        middle = (box[:2] + box[2:]) / 2 + rng.normal(0, self._jitter.shift, 2) * longer
        side = max(longer, 1.0) * self._margin * float(np.exp(rng.normal(0, self._jitter.size)))
        matrix = warp.moved(-middle[0], -middle[1])
        mirrored = bool(rng.random() < augmentation.flip)
        if mirrored:
            matrix = warp.scaled(-1, 1) @ matrix
        if rng.random() < augmentation.rotate:
            matrix = warp.turned(rng.uniform(-augmentation.rotate_degrees, augmentation.rotate_degrees)) @ matrix
        matrix = warp.moved(size / 2, size / 2) @ warp.scaled(size / side, size / side) @ matrix
        rectangle = (0, 0, size, size)
        alone = replace(
            picture,
            boxes=picture.boxes[person : person + 1],
            keypoints=picture.keypoints[person : person + 1],
            areas=picture.areas[person : person + 1],
            ignored=np.array([[0, 0, picture.width, picture.height]], np.float32),
            ignored_areas=np.array([picture.width * picture.height], np.float32),
            ignored_crowds=np.ones(1, bool),
            certainty=picture.certainty[person : person + 1],
            keypoint_certainty=picture.keypoint_certainty[person : person + 1],
        )
        labels = warp.follow(
            sample_labels(alone, rng), matrix, mirrored, rectangle, augmentation.smallest_person_px, augmentation.least_visible
        )
        return PicturePlan((Part(number, rectangle, matrix, choose_appearance(augmentation, rng)),), labels)
