"""Resizing without aliasing, for the letterbox and the crops of the refiner."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.pose.buffers import Scratch

_AREA_BELOW = 0.5  # below this scale, bilinear sampling skips source pixels and aliases


def resize(image: NDArray[np.uint8], out: NDArray[np.uint8], scratch: Scratch | None = None, *, exact: bool = False) -> None:
    """Resize an image, uint8 (h, w, 3), into `out`, uint8 (H, W, 3), which may be a view of a larger array.

    Args:
        scratch: holds what is between; None allocates that.
        exact: give the same bytes on each processor. The fast way of OpenCV is off by one gray level in places, differently on x86-64 and
            ARM; the exact one takes twice as long.
    """
    image = _halve(image, out, scratch)
    height, width = out.shape[:2]
    if out.shape == image.shape:
        if image is not out:
            out[:] = image
        return
    shrinks = min(height / image.shape[0], width / image.shape[1]) < _AREA_BELOW
    linear = cv2.INTER_LINEAR_EXACT if exact else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA if shrinks else linear)
    if resized is not out:  # cv2 may refuse to write into a view of an unusual layout
        out[:] = resized


def _halve(image: NDArray[np.uint8], out: NDArray[np.uint8], scratch: Scratch | None) -> NDArray[np.uint8]:
    """Halve an image by averaging 2 x 2 pixels while its sides are even and the result is not smaller than `out`.

    cv2.resize has a fast path for this case only: 720p to 256 px takes less than half the time of a single INTER_AREA step.
    """
    height, width = out.shape[:2]
    while image.shape[0] % 2 == 0 and image.shape[1] % 2 == 0 and image.shape[0] // 2 >= height and image.shape[1] // 2 >= width:
        shape = (image.shape[0] // 2, image.shape[1] // 2, 3)
        room = out if shape == out.shape else None if scratch is None else scratch.bytes("halved", shape)
        half = cv2.resize(image, shape[1::-1], dst=room, interpolation=cv2.INTER_AREA)
        image = np.asarray(half, np.uint8)
    return image
