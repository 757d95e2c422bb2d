"""Measures of boxes, float32 (..., 4), x1 y1 x2 y2 in pixels."""

import numpy as np
from numpy.typing import NDArray


def box_area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (...) in square pixels; 0 where a box is turned inside out."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], np.float32(0))
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def body_size(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Body sizes (...): square root of the area of the box in pixels, at least 1.

    The unit of lengths and speeds of a body wherever pixels would mean something else at every distance.
    """
    return np.asarray(np.sqrt(np.maximum(box_area(boxes), np.float32(1))), np.float32)


def iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of boxes with others, broadcast against each other, 0 to 1."""
    overlap = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    overlap = np.maximum(overlap, np.float32(0))
    intersection = overlap[..., 0] * overlap[..., 1]
    union = box_area(boxes) + box_area(others) - intersection
    return np.asarray(intersection / np.maximum(union, np.float32(1e-6)), np.float32)
