"""Areas, sizes and overlaps of boxes, float32 (..., 4), x1 y1 x2 y2 in pixels."""

import numpy as np
from numpy.typing import NDArray

_ZERO, _ONE, _LEAST_UNION = np.float32(0), np.float32(1), np.float32(1e-6)


def box_area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas (...) in square pixels; 0 if the corners of a box are swapped."""
    sides = boxes[..., 2:] - boxes[..., :2]
    np.maximum(sides, _ZERO, out=sides)
    area: NDArray[np.float32] = sides[..., 0] * sides[..., 1]
    return area


def body_size(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the body sizes (...): the square roots of the areas in pixels, at least 1.

    Lengths and speeds of bodies are measured in body sizes, since pixels depend on the distance from the camera.
    """
    sizes: NDArray[np.float32] = np.sqrt(np.maximum(box_area(boxes), _ONE))
    return sizes


def intersection(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas (...) that boxes (..., 4) have in common with others (..., 4), px²; both are broadcast against each other."""
    overlap = np.minimum(boxes[..., 2:], others[..., 2:])
    overlap -= np.maximum(boxes[..., :2], others[..., :2])
    np.maximum(overlap, _ZERO, out=overlap)
    common: NDArray[np.float32] = overlap[..., 0] * overlap[..., 1]
    return common


def iou(
    boxes: NDArray[np.float32], others: NDArray[np.float32], areas: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
) -> NDArray[np.float32]:
    """Return the intersection over union (...) of boxes with others, 0 to 1; both are broadcast against each other.

    Args:
        boxes, others: (..., 4), x1 y1 x2 y2 in pixels.
        areas: of both, px², where they are known.
    """
    common = intersection(boxes, others)
    first, second = (box_area(boxes), box_area(others)) if areas is None else areas
    union = first + second
    union -= common
    return np.asarray(common / np.maximum(union, _LEAST_UNION), np.float32)
