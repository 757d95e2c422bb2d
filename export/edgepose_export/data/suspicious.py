"""Labels that look wrong: only signs that hardly ever occur in correct labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgepose_export.data.coco import Picture

Kind = Literal["keypoints", "box", "swapped", "twice", "collapsed"]

SWAPPED: Kind = "swapped"
"""Left and right of a person who faces the camera are swapped."""

KINDS: dict[Kind, str] = dict(
    zip(
        get_args(Kind),
        (
            "a visible keypoint far outside of the box",
            "a box that reaches out of the picture",
            "left and right swapped (both eyes visible)",
            "two people in one place",
            "all keypoints in one place",
        ),
        strict=True,
    )
)
"""What each kind means."""

_KEYPOINT_OUTSIDE = 0.3  # distance from the box, as a share of its longer side
_BOX_OUTSIDE = 0.05  # distance from the picture, as a share of its side
_SAME_PLACE_IOU = 0.95
_EYES_APART = 0.02  # least distance of the eyes, as a share of the box's longer side, for their order to mean something
_NOSE, _LEFT_EYE, _RIGHT_EYE, _LEFT_SHOULDER, _RIGHT_SHOULDER = 0, 1, 2, 5, 6
_HEAD = [_NOSE, _LEFT_EYE, _RIGHT_EYE, _LEFT_SHOULDER, _RIGHT_SHOULDER]


@dataclass(frozen=True, slots=True)
class SuspiciousLabel:
    """A label to look at.

    Attributes:
        kind: what looks wrong, see `KINDS`.
        path: the picture.
        person: index among its people with keypoints.
    """

    kind: Kind
    path: Path
    person: int


def find_suspicious(pictures: Sequence[Picture]) -> tuple[SuspiciousLabel, ...]:
    """Return the labels that look wrong, in the order of the pictures."""
    return tuple(SuspiciousLabel(kind, picture.path, person) for picture in pictures for kind, person in _of_picture(picture))


def _of_picture(picture: Picture) -> Iterator[tuple[Kind, int]]:
    size = np.array([picture.width, picture.height], np.float32)
    for person, (box, keypoints) in enumerate(zip(picture.boxes, picture.keypoints, strict=True)):
        longer = max(float((box[2:] - box[:2]).max()), 1.0)
        places, visible = keypoints[keypoints[:, 2] > 0, :2], keypoints[keypoints[:, 2] == 2, :2]
        # Hidden legs lie rightly outside of the box of an outline that ends where the person is covered.
        outside = np.maximum(box[:2] - visible, visible - box[2:]).max(initial=0.0)
        if outside > _KEYPOINT_OUTSIDE * longer:
            yield "keypoints", person
        if (np.maximum(-box[:2], box[2:] - size) > _BOX_OUTSIDE * size).any():
            yield "box", person
        if len(places) > 2 and np.ptp(places, axis=0).max() < 0.02 * longer:
            yield "collapsed", person
        if _is_swapped(keypoints, longer):
            yield "swapped", person
        if person and (_iou(box, picture.boxes[:person]) > _SAME_PLACE_IOU).any():
            yield "twice", person


def _is_swapped(keypoints: NDArray[np.float32], longer: float) -> bool:
    """Return whether an upright person with both eyes visible has the left eye and the left shoulder left of the right ones.

    A face that shows both eyes looks into the camera, so that the person's left is on the right of the picture.
    """
    if (keypoints[_HEAD, 2] != 2).any():
        return False
    x, y = keypoints[:, 0], keypoints[:, 1]
    upright = y[_NOSE] > max(y[_LEFT_EYE], y[_RIGHT_EYE]) and y[_NOSE] < min(y[_LEFT_SHOULDER], y[_RIGHT_SHOULDER])
    apart = _EYES_APART * longer
    return bool(upright and x[_RIGHT_EYE] - x[_LEFT_EYE] > apart and x[_RIGHT_SHOULDER] - x[_LEFT_SHOULDER] > apart)


def _iou(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    return np.asarray(shared / np.maximum(union, 1e-6), np.float32)
