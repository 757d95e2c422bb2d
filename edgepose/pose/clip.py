"""Clipping of boxes and keypoints to the frame."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_OUTSIDE_TOLERANCE = 0.05  # body sizes that a keypoint may lie outside the frame without losing its confidence
_ZERO, _ONE = np.float32(0), np.float32(1)


def clip_points(points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return points (..., 2) in source pixels, with those outside the frame moved to its edge."""
    clipped = np.maximum(points, _ZERO)
    return np.asarray(np.minimum(clipped, _edge(width, height), out=clipped), np.float32)


def clip_keypoints(
    points: NDArray[np.float32], clipped: NDArray[np.float32], confidences: NDArray[np.float32], sizes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return keypoints (K, 17, 3) inside the frame, with confidences clipped to 0 to 1.

    A keypoint that lies clearly outside the frame gets confidence 0, because the camera does not see it.

    Args:
        points: (K, 17, 2), positions from the network.
        clipped: (K, 17, 2), the same positions after `clip_points`.
        confidences: (K, 17).
        sizes: (K,), body sizes in pixels.
    """
    visible = _outside_px(points, clipped) <= _OUTSIDE_TOLERANCE * sizes[:, None]
    keypoints = np.empty((*points.shape[:2], 3), np.float32)
    keypoints[..., :2] = clipped
    kept = keypoints[..., 2]
    np.maximum(confidences, _ZERO, out=kept)
    np.minimum(kept, _ONE, out=kept)
    np.multiply(kept, visible, out=kept)
    return keypoints


def _outside_px(points: NDArray[np.float32], clipped: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far points (..., 2) lie outside the frame, in pixels, along the worse of both axes."""
    outside = points - clipped
    np.abs(outside, out=outside)
    outside_px: NDArray[np.float32] = np.maximum(outside[..., 0], outside[..., 1])
    return outside_px


@lru_cache(maxsize=64)
def _edge(width: int, height: int) -> NDArray[np.float32]:
    edge = np.array((width, height), np.float32)
    edge.flags.writeable = False
    return edge
