"""Resizing without aliasing: what the letterbox and the regions of the second look do to pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

_AREA_BELOW = 0.5  # shrinking more than twofold, bilinear sampling skips source pixels and aliases


def resize(image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Resize a picture, uint8 (h, w, 3), into `out`, uint8 (H, W, 3), which may be a view of something larger."""
    height, width = out.shape[:2]
    picture = _halve(image, height, width)
    if out.shape == picture.shape:
        out[:] = picture
        return
    shrinks = min(height / picture.shape[0], width / picture.shape[1]) < _AREA_BELOW
    resized = cv2.resize(picture, (width, height), dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if not np.shares_memory(resized, out):  # cv2 may refuse to write into a view of an unusual layout
        out[:] = resized


def _halve(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Halve a picture by averaging 2 x 2 pixels while it stays at least as large as asked and its sides are even.

    cv2.resize has a fast path for this case only: 720p to 256 px takes less than half the time of INTER_AREA in one step.
    """
    while image.shape[0] % 2 == 0 and image.shape[1] % 2 == 0 and image.shape[0] // 2 >= height and image.shape[1] // 2 >= width:
        half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        image = np.asarray(half, np.uint8)
    return image
