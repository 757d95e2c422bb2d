"""Drift of places on the ground: how far the measured motion of the camera takes them from where they are, on labeled clips."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgepose.motion import Motion

BODY_HEIGHT_M = 1.7
_ACROSS, _DOWN = np.linspace(0.2, 0.8, 4), np.linspace(0.5, 0.95, 4)  # shares of the first picture, where the ground is
_FEWEST_VISIBLE = 3


def ground_drift(grounds: NDArray[np.float64], motions: Sequence[Motion | None], width: int, height: int) -> float:
    """Return the largest median distance in a frame, in body heights, of ground of the first picture from where its motion has taken it.

    Places count while they are in the picture.

    Args:
        grounds: (T, 3, 3), from the ground in meters to pixels of each frame.
        motions: of the camera, as measured; None where it was not.
        width, height: of a frame in pixels.
    """
    first = np.array([(x * width, y * height) for x in _ACROSS for y in _DOWN])
    places = _mapped(np.linalg.inv(grounds[0]), first)
    total, largest = Motion(np.eye(3)), 0.0
    for ground, motion in zip(grounds[1:], motions[1:], strict=True):
        total = total if motion is None else total.then(motion)
        true = _mapped(ground, places)
        # A place behind the camera is mapped into the picture, too, but with a depth of the other sign.
        ahead = _depths(ground, places) * _depths(grounds[0], places) > 0
        visible = ahead & ((true >= 0) & (true <= (width, height))).all(1)
        if visible.sum() >= _FEWEST_VISIBLE:
            errors = np.linalg.norm(total.points(first[visible].astype(np.float32)) - true[visible], axis=1)
            pixels = BODY_HEIGHT_M * np.array([_pixels_per_m(ground, place) for place in places[visible]])
            largest = max(largest, float(np.median(errors / pixels)))
    return largest


def _depths(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[2, :2] + matrix[2, 2])


def _mapped(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((points @ matrix[:2, :2].T + matrix[:2, 2]) / _depths(matrix, points)[:, None])


def _pixels_per_m(ground: NDArray[np.float64], place: NDArray[np.float64]) -> float:
    """Return the scale of the picture at a place on the ground, in the direction in which it is largest: across the view."""
    step_m = 0.01
    ends = _mapped(ground, place + step_m * np.array(((0, 0), (1, 0), (0, 1))))
    return float(np.linalg.norm((ends[1:] - ends[0]).T / step_m, 2))
