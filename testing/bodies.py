"""Synthetic people for tests of the stages after inference."""

import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person

# A standing person who faces the camera, in a box of width 0.4 and height 1, in COCO order.
_STANDING = np.array(
    [
        (0.20, 0.08), (0.22, 0.06), (0.18, 0.06), (0.25, 0.08), (0.15, 0.08), (0.32, 0.20), (0.08, 0.20), (0.36, 0.36), (0.04, 0.36),
        (0.37, 0.50), (0.03, 0.50), (0.28, 0.52), (0.12, 0.52), (0.28, 0.74), (0.12, 0.74), (0.28, 0.96), (0.12, 0.96),
    ],
    np.float32,
)  # fmt: skip


def standing_person(
    left: float = 100.0, top: float = 50.0, height: float = 200.0, score: float = 0.8, confidence: float = 0.9, track: int | None = None
) -> Person:
    """Return a standing person whose box has its top-left corner at (left, top), in pixels."""
    corner = np.array((left, top), np.float32)
    box = np.concatenate((corner, corner + np.array((0.4, 1.0), np.float32) * height)).astype(np.float32)
    keypoints = np.concatenate((_STANDING * height + corner, np.full((17, 1), confidence)), axis=1).astype(np.float32)
    return Person(box, score, keypoints, track)


def without_pose(person: Person) -> Person:
    """Return the person with all confidences at 0, as somebody who is too small to be refined."""
    return Person(person.box, person.score, person.keypoints * np.array((1, 1, 0), np.float32), person.track)


def moved(person: Person, offset: NDArray[np.floating], keypoint: int | None = None) -> Person:
    """Return the person with all keypoints, or one of them, moved by `offset`, (2,) or (17, 2) in pixels. The box stays."""
    keypoints = person.keypoints.copy()
    keypoints[slice(None) if keypoint is None else keypoint, ..., :2] += np.asarray(offset, np.float32)
    return Person(person.box, person.score, keypoints, person.track)
