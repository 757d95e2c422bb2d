"""Adapter for pose networks exported by Ultralytics: converts between their tensors and those of edgepose.

Input float32 (N, 3, H, W), RGB 0 to 1. Output (N, 56, anchors): box center x, center y, width, height, person score, then
17 x (x, y, confidence), all in input pixels (https://docs.ultralytics.com/tasks/pose, format of exported models).
"""

import numpy as np
from numpy.typing import NDArray

from edgepose.person import KEYPOINT_NAMES, Candidates

_CENTER, _SIDES, _SCORE, _KEYPOINTS = slice(0, 2), slice(2, 4), 4, slice(5, None)


def to_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert images uint8 (N, H, W, 3) to the network's input float32 (N, 3, H, W)."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    scaled: NDArray[np.float32] = np.multiply(planes, np.float32(1 / 255), dtype=np.float32)
    return scaled


def to_candidates(output: NDArray[np.float32], count: int) -> Candidates:
    """Return the `count` best anchors of an output (N, 56, anchors) as candidates, in descending order of score."""
    count = min(count, output.shape[2])
    scores = output[:, _SCORE]  # (N, anchors)
    best = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, axis=1)  # (N, count)
    rows = np.take_along_axis(output, best[:, None, :], axis=2).transpose(0, 2, 1)  # (N, count, 56)
    center, half = rows[..., _CENTER], rows[..., _SIDES] / 2
    return Candidates(
        boxes=np.concatenate((center - half, center + half), axis=2),
        scores=np.ascontiguousarray(rows[..., _SCORE]),
        keypoints=rows[..., _KEYPOINTS].reshape(*rows.shape[:2], len(KEYPOINT_NAMES), 3),
    )
