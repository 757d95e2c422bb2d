"""What is believed of points at and beyond the edge of the picture."""

import numpy as np
from numpy.typing import NDArray

_OUTSIDE_TOLERANCE = 0.05  # body sizes that a keypoint may lie outside of the picture and still be believed


def inside_picture(points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Points (..., 2) in source pixels, those outside of the picture moved to its edge."""
    edge = np.array((width, height), np.float32)
    return np.asarray(np.minimum(np.maximum(points, np.float32(0)), edge), np.float32)


def believed_keypoints(
    points: NDArray[np.float32], inside: NDArray[np.float32], confidences: NDArray[np.float32], sizes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Keypoints (K, 17, 3) in the picture, with confidences from 0 to 1.

    A keypoint that lies clearly outside of the picture gets confidence 0: no camera saw it.

    Args:
        points: (K, 17, 2), where they were found.
        inside: (K, 17, 2), what `inside_picture` makes of that.
        confidences: (K, 17).
        sizes: (K,), body sizes in pixels.
    """
    outside_px = np.abs(points - inside).max(axis=2)  # (K, 17)
    seen = outside_px <= _OUTSIDE_TOLERANCE * sizes[:, None]
    keypoints = np.empty((*points.shape[:2], 3), np.float32)
    keypoints[..., :2] = inside
    keypoints[..., 2] = np.minimum(np.maximum(confidences, np.float32(0)), np.float32(1)) * seen
    return keypoints
