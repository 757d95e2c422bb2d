"""Image quality: frames that are too dark or too blurred for people to be detected."""

from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.pose.letterbox import Letterbox

DARK_LUMA = 8.0
"""Mean gray value (0 to 255) below which most people are not detected (measurement in docs/operations.md)."""

BLURRED_SHARPNESS = 0.0015
"""Sharpness below which most people are not detected."""


class ImageQuality(msgspec.Struct, frozen=True):
    """Quality of one frame as the network receives it.

    Attributes:
        luma: mean gray value, 0 to 255.
        sharpness: variance of the Laplacian of the gray image over the square of its mean, which decreases with blur but not with light.
    """

    luma: float
    sharpness: float

    @property
    def impairment(self) -> Literal["too_dark", "blurred"] | None:
        """The reason why people cannot be detected, None if they can."""
        if self.luma < DARK_LUMA:
            return "too_dark"
        return "blurred" if self.sharpness < BLURRED_SHARPNESS else None


def measure_image_quality(images: NDArray[np.uint8], letterbox: Letterbox) -> ImageQuality:
    """Return the quality of the frame in a network input, without the padding.

    Args:
        images: network input, uint8 (1, H, W, 3), RGB.
        letterbox: layout of the frame in the input.
    """
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    gray = cv2.cvtColor(images[0, letterbox.top : bottom, letterbox.left : right], cv2.COLOR_RGB2GRAY)  # (h, w)
    luma = float(gray.mean())
    return ImageQuality(luma, float(cv2.Laplacian(gray, cv2.CV_32F).var()) / max(1.0, luma) ** 2)
