"""Augmentations of one kind each, and how to find what they moved."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgepose_export.data.augment import Augmentation

NONE = Augmentation.none()
EVERYTHING = Augmentation(
    scale=(0.6, 1.4), zoom_out=0, rotate=0.5, turn=0.2, tilt=0.3, overhead=0.3, mosaic=0.3, smallest_person_px=0, least_visible=0
).without_color()
WARPS = {
    "none": NONE,
    "flip": replace(NONE, flip=1),
    "scale": replace(NONE, scale=(0.5, 1.5), top_left=0, outside=0.3),
    "rotate": replace(NONE, rotate=1, top_left=0),
    "turn": replace(NONE, turn=1, top_left=0),
    "tilt": replace(NONE, tilt=1, tilt_degrees=40, top_left=0),
    "overhead": replace(NONE, overhead=1, top_left=0),
    "mosaic": replace(NONE, mosaic=1, mosaic_scale=(1, 2), flip=0.5, top_left=0, outside=0.3),
    "everything": EVERYTHING,
}


def peak(image: NDArray[np.uint8], point: NDArray[np.floating], reach: int = 3) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return position and color of the brightest pixel near a point."""
    x, y = (int(value) for value in point)
    left, top = max(x - reach, 0), max(y - reach, 0)
    window = image[top : y + reach + 1, left : x + reach + 1]
    row, column = np.unravel_index(window.max(2).argmax(), window.shape[:2])
    return np.array((left + column + 0.5, top + row + 0.5)), window[row, column]
