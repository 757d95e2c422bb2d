"""Areas, sizes and overlaps of boxes, float32 (..., 4), x1 y1 x2 y2 in pixels."""

import numpy as np
from numpy.typing import NDArray


def box_area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas (...) in square pixels; 0 if the corners of a box are swapped."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], np.float32(0))
    return np.asarray(sides[..., 0] * sides[..., 1], np.float32)


def body_size(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the body sizes (...): the square roots of the areas in pixels, at least 1.

    Lengths and speeds of bodies are measured in body sizes, since pixels depend on the distance from the camera.
    """
    return np.asarray(np.sqrt(np.maximum(box_area(boxes), np.float32(1))), np.float32)


def iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union of boxes with others, 0 to 1; both are broadcast against each other."""
    overlap = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    overlap = np.maximum(overlap, np.float32(0))
    intersection = overlap[..., 0] * overlap[..., 1]
    union = box_area(boxes) + box_area(others) - intersection
    return np.asarray(intersection / np.maximum(union, np.float32(1e-6)), np.float32)
