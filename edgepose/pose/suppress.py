"""Pose similarity (OKS), non-maximum suppression (NMS) of people, and doubles: people who have the same pose after refinement.

OKS is COCO's object keypoint similarity (https://cocodataset.org/#keypoints-eval): the mean over keypoints of
exp(-d^2 / (2 s^2 k^2)), k = 2 sigma, where s^2 is the area of the person. Only boxes are known here. As in COCO's own
evaluation of results, a person covers about 0.53 of the box.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from edgepose.person import OKS_SIGMAS, Person
from edgepose.pose.boxes import box_area, iou

BODY_SHARE_OF_BOX = 0.53
"""Area of a person over the area of the box."""

_BLOCK_SIZE = 32
_BODY_SHARE, _LEAST = np.float32(BODY_SHARE_OF_BOX), np.float32(1e-6)
_DOUBLE_VARIANCES = 2.0 * (2.0 * np.array(OKS_SIGMAS, np.float32)) ** 2  # (17,): 2 k^2


def oks(
    keypoints: NDArray[np.float32],
    others: NDArray[np.float32],
    area: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the object keypoint similarity of two sets of poses, 0 to 1; both are broadcast against each other.

    Args:
        keypoints, others: (..., 17, 2 or more), beginning with x and y in pixels.
        area: (...), areas of the boxes in square pixels.
        weights: (..., 17), not negative, weight of each keypoint. If all are 0, the similarity is 0.
    """
    squared = _squared_distances(keypoints, others)  # (..., 17)
    person_area = np.maximum(area * _BODY_SHARE, _LEAST)
    np.negative(squared, out=squared)
    squared /= person_area[..., None] * _DOUBLE_VARIANCES
    similarities = np.exp(squared, out=squared)  # (..., 17)
    similarities *= weights
    total = np.add.reduce(weights, axis=-1)
    return np.asarray(np.add.reduce(similarities, axis=-1) / np.maximum(total, _LEAST), np.float32)


def _squared_distances(keypoints: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distances (...) of points (..., 2 or more), which are broadcast against each other."""
    squared, down = (_difference(keypoints[..., axis], others[..., axis]) for axis in (0, 1))
    np.square(squared, out=squared)
    squared += np.square(down, out=down)
    return squared


def _difference(values: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the differences of arrays, which are broadcast against each other."""
    sides = zip_longest(values.shape[::-1], others.shape[::-1], fillvalue=1)
    difference = np.empty([other if side == 1 else side for side, other in sides][::-1], values.dtype)
    subtracted = np.empty_like(difference)
    difference[:], subtracted[:] = values, others  # copies of one shape: NumPy takes 1.4 KB to broadcast as it computes
    return np.subtract(difference, subtracted, out=difference)


def pose_nms(
    boxes: NDArray[np.float32],
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    oks_threshold: float,
    iou_threshold: float,
) -> NDArray[np.intp]:
    """Return the indices of the people that non-maximum suppression keeps, by falling score.

    A person is dropped if a kept person with a higher score has a similar pose or an overlapping box. Two people close to
    each other share most of their boxes but not their poses, so the pose decides and the box threshold can be high.

    Args:
        boxes: (K, 4), x1 y1 x2 y2.
        keypoints: (K, 17, 3), x y confidence, in the same pixels.
        scores: (K,).
        oks_threshold: maximum OKS, with keypoints weighted by the confidences of the person with the higher score.
        iou_threshold: maximum IoU of the boxes.
    """
    if len(scores) < 2:
        return np.arange(len(scores))
    order = None
    if not (scores[:-1] >= scores[1:]).all():  # a network returns them by falling score: no copies
        order = np.argsort(-scores, kind="stable")
        boxes, keypoints = boxes.take(order, 0), keypoints.take(order, 0)
    # Compare the strongest people with all that remain, one block at a time. A usual frame takes one pass; of hundreds of
    # candidates, the first pass drops most, so they are not compared with one another.
    same = _alike(boxes, keypoints, oks_threshold, iou_threshold)
    remaining = np.arange(len(scores)) if order is None else order
    if len(scores) <= _BLOCK_SIZE and not same.any():  # the usual frame
        return remaining
    kept: list[int] = []
    while True:
        different = ~same
        stays = np.ones(remaining.size, np.bool_)
        for index, candidate in enumerate(remaining[:_BLOCK_SIZE].tolist()):
            if stays[index]:
                kept.append(candidate)
                stays &= different[index]
        rest = stays[_BLOCK_SIZE:]
        remaining = remaining[_BLOCK_SIZE:][rest]
        boxes, keypoints = boxes[_BLOCK_SIZE:][rest], keypoints[_BLOCK_SIZE:][rest]
        if not remaining.size:
            return np.array(kept, np.intp)
        same = _alike(boxes, keypoints, oks_threshold, iou_threshold)


def _alike(boxes: NDArray[np.float32], keypoints: NDArray[np.float32], oks_threshold: float, iou_threshold: float) -> NDArray[np.bool_]:
    """Return which of the first `_BLOCK_SIZE` people have a similar pose or an overlapping box with which of all others (rows, K)."""
    area = box_area(boxes)
    rows, row_area = keypoints[:_BLOCK_SIZE, None], area[:_BLOCK_SIZE, None]
    same = oks(rows, keypoints, row_area, rows[..., 2]) > oks_threshold
    same |= iou(boxes[:_BLOCK_SIZE, None], boxes, (row_area, area)) > iou_threshold
    same.reshape(-1)[:: len(boxes) + 1] = False  # each with itself
    return np.asarray(same, np.bool_)


_DOUBLES_OKS = 0.9
"""OKS of two refined poses above which they are one person's. Refined poses are precise: at 0.7 neighbors are lost (AP - 0.005)."""


def without_doubles(people: Sequence[Person], from_refiner: Sequence[bool], oks_threshold: float = _DOUBLES_OKS) -> list[Person]:
    """Return people in the same order, and one person only of those whose refined poses are nearly equal.

    Two candidates with different coarse poses may be one person, which only their refined poses show.

    The person with the highest score stays. Among those with a track number, which stay rather than others, it is the oldest track: by
    scores that are nearly equal, one person would alternate between two numbers.

    Args:
        people: of one frame.
        from_refiner: whether the pose of each is from the refiner; the others are neither dropped nor compared.
        oks_threshold: maximum OKS, with keypoints weighted by the confidences of the person who stays.
    """
    ranked = [index for index, refined in enumerate(from_refiner) if refined]
    if len(ranked) < 2:
        return list(people)
    ranked.sort(key=lambda index: (people[index].track is None, people[index].track or 0, -people[index].score))
    boxes, keypoints = (np.array([getattr(people[index], name) for index in ranked]) for name in ("box", "keypoints"))
    kept = pose_nms(boxes, keypoints, -np.arange(len(ranked), dtype=np.float32), oks_threshold, math.inf)
    dropped = set(ranked).difference(ranked[rank] for rank in kept)
    return [person for index, person in enumerate(people) if index not in dropped]
