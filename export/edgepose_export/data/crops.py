"""Crops to train a refiner on: one labeled person each, or nobody, placed as the pose network would place the crop."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose_export.data import color, warp
from edgepose_export.data.augment import Augmentation, Cover, Part, PicturePlan, PicturePlans, choose_appearance
from edgepose_export.data.coco import KEYPOINTS, CocoPose, Picture, sample_labels
from edgepose_export.network.checkpoint import NetworkSpec
from edgepose_export.network.refiner import RefinerSpec

ABSENT = (0.0, 0.0, -1.0)
"""x y v of a keypoint that is known to be nowhere in the crop."""

_GRAY = 127
_PLAIN_COVERS = 0.5  # share of covers of one color; the others show a piece of another picture


@dataclass(frozen=True, slots=True)
class Jitter:
    """Errors of each edge of the pose network's box: standard deviations as shares of the box's longer side.

    965 boxes of RTMDet-nano at 320 px (score above 0.25, IoU above 0.3) in pictures of coco-train differ from the labels, as shares of
    their own width or height, by 0.04 / 0.02 / 0.05 / 0.03 at the left / top / right / bottom (from the median deviation), but have
    heavy tails: the standard deviations are 0.13 / 0.08 / 0.11 / 0.12 and a twentieth lies beyond 0.18 / 0.06 / 0.17 / 0.22. The
    width differs by 0.09 (tails: 0.16) and the height by 0.04 (0.12), the middle by 0.02 of the longer side in both directions
    (0.05 and 0.07). Two normal distributions describe them: one of ordinary errors, and one of edges that miss a limb or take one of
    somebody else.
    """

    ordinary: float = 0.022
    gross: float = 0.12
    gross_share: float = 0.25

    def of(self, box: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a box (4,), x1 y1 x2 y2, with random errors; its sides stay above a quarter of what they were."""
        size = box[2:] - box[:2]
        deviation = np.where(rng.random(4) < self.gross_share, self.gross, self.ordinary) * size.max()
        moved = box + rng.normal(0, 1, 4) * deviation
        middle = (moved[:2] + moved[2:]) / 2
        half = np.maximum(moved[2:] - moved[:2], size / 4) / 2
        return np.concatenate((middle - half, middle + half))


def plans_for(spec: NetworkSpec, data: CocoPose) -> "PicturePlans | CropPlans":
    """Return the plans that a network trains on: whole pictures, or a refiner's crops."""
    return CropPlans(data, spec.crop_margin) if isinstance(spec, RefinerSpec) else PicturePlans(data)


class CropPlans:
    """Plans of crops, one per person and one per hard negative, for `edgepose_export.data.batches.Batches`.

    The crop is what the runtime would cut (`edgepose/pose/refine/regions.py`): the person's box grown to the crop's aspect, times `margin`,
    around the middle of the box. In a turned picture that is the upright box of the turned person. Only that person is labeled;
    everything else is an ignore region. All keypoints of a hard negative are labeled as absent (`ABSENT`).

    Args:
        data: labeled pictures.
        margin: ratio of the crop to the grown box.
        jitter: random error of the box; `Jitter(0, 0)` uses the labeled box.
        fewest_keypoints: people with fewer labeled keypoints are left out, because they teach little.
    """

    def __init__(self, data: CocoPose, margin: float, jitter: Jitter | None = None, *, fewest_keypoints: int = 4) -> None:
        self._data = data
        self._margin = margin
        self._jitter = jitter or Jitter()
        self._boxes = [
            (index, number)
            for index, picture in enumerate(data)
            for number in (
                *(person for person, keypoints in enumerate(picture.keypoints) if (keypoints[:, 2] > 0).sum() >= fewest_keypoints),
                *range(len(picture.boxes), len(picture.boxes) + len(picture.hard_negatives)),
            )
        ]

    def __len__(self) -> int:
        return len(self._boxes)

    def picture(self, index: int) -> int:
        """Return the picture of a crop."""
        return self._boxes[index][0]

    def plan(self, index: int, size: warp.Canvas, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
        """Plan one crop of `size`."""
        number, which = self._boxes[index]
        picture = self._data[number]
        height, width = warp.canvas_sides(size)
        shows_nobody = which >= len(picture.boxes)
        alone = _hard_negative(picture, which - len(picture.boxes)) if shows_nobody else _person(picture, which)
        mirrored = bool(rng.random() < augmentation.flip)
        matrix = warp.scaled(-1, 1) if mirrored else np.eye(3)
        chance = rng.random()
        if chance < augmentation.turn:
            matrix = warp.turned(rng.uniform(-180, 180)) @ matrix
        elif chance < augmentation.turn + augmentation.rotate:
            matrix = warp.turned(rng.uniform(-augmentation.rotate_degrees, augmentation.rotate_degrees)) @ matrix
        box = self._jitter.of(warp.person_boxes(alone, matrix)[0], rng)
        middle, (box_width, box_height) = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1.0)
        scale = min(width / box_width, height / box_height) / self._margin
        matrix = warp.moved(width / 2, height / 2) @ warp.scaled(scale, scale) @ warp.moved(-middle[0], -middle[1]) @ matrix
        rectangle = (0, 0, width, height)
        labels = warp.follow(
            sample_labels(alone, rng), matrix, mirrored, rectangle, augmentation.smallest_person_px, augmentation.least_visible
        )
        if shows_nobody:
            labels.keypoints[...] = ABSENT
        parts = (Part(number, rectangle, matrix, choose_appearance(augmentation, rng)),)
        if augmentation.cover and len(labels.boxes) and rng.random() < augmentation.cover:
            cover = self._cover(labels.boxes[0], rectangle, augmentation, rng)
            return PicturePlan(parts, _hide(labels, cover.rectangle), (cover,))
        return PicturePlan(parts, labels)

    def _cover(self, box: NDArray[np.float32], canvas: warp.Rectangle, augmentation: Augmentation, rng: np.random.Generator) -> Cover:
        """Choose a rectangle inside the box of a person, and what it shows."""
        size = (box[2:] - box[:2]) * rng.uniform(*augmentation.cover_share, 2)
        low = box[:2] + rng.random(2) * (box[2:] - box[:2] - size)
        x1, y1 = (int(value) for value in low.round())
        x2, y2 = min(x1 + max(1, round(size[0])), canvas[2]), min(y1 + max(1, round(size[1])), canvas[3])
        rectangle = (x1, y1, x2, y2)
        if rng.random() < _PLAIN_COVERS:
            plain = rng.random() < 0.5
            red, green, blue = (_GRAY,) * 3 if plain else rng.integers(0, 256, 3).tolist()
            return Cover(rectangle, (red, green, blue))
        index = int(rng.integers(len(self._data)))
        other = self._data[index]
        scale = max((x2 - x1) / other.width, (y2 - y1) / other.height) * float(np.exp(rng.uniform(0, np.log(4))))
        shift_x = x1 - rng.random() * (other.width * scale - (x2 - x1))
        shift_y = y1 - rng.random() * (other.height * scale - (y2 - y1))
        matrix = warp.moved(shift_x, shift_y) @ warp.scaled(scale, scale)
        return Cover(rectangle, (_GRAY,) * 3, Part(index, rectangle, matrix, color.Appearance()))


def _person(picture: Picture, person: int) -> Picture:
    """Return a picture with the labels of one person; the rest is an ignore region."""
    chosen = slice(person, person + 1)
    return replace(
        picture,
        boxes=picture.boxes[chosen],
        keypoints=picture.keypoints[chosen],
        areas=picture.areas[chosen],
        ignored=np.array([[0, 0, picture.width, picture.height]], np.float32),
        ignored_areas=np.array([picture.width * picture.height], np.float32),
        ignored_crowds=np.ones(1, bool),
        certainty=picture.certainty[chosen],
        keypoint_certainty=picture.keypoint_certainty[chosen],
    )


def _hard_negative(picture: Picture, which: int) -> Picture:
    """Return a picture with the box of one hard negative in place of people."""
    box = picture.hard_negatives[which : which + 1]
    return replace(
        picture,
        boxes=box,
        keypoints=np.zeros((1, KEYPOINTS, 3), np.float32),
        areas=(box[:, 2:] - box[:, :2]).prod(1),
        certainty=np.ones(1, np.float32),
        keypoint_certainty=np.ones((1, KEYPOINTS), np.float32),
    )


def _hide(labels: warp.Labels, rectangle: warp.Rectangle) -> warp.Labels:
    """Return labels whose keypoints inside a rectangle are hidden, not visible."""
    x1, y1, x2, y2 = rectangle
    keypoints = labels.keypoints.copy()
    x, y, visible = np.moveaxis(keypoints, -1, 0)
    visible[(x >= x1) & (x < x2) & (y >= y1) & (y < y2) & (visible == 2)] = 1
    return replace(labels, keypoints=keypoints)
