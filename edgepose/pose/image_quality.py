"""Whether anybody could be seen at all: pictures too dark or too blurred for the network."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.pose.letterbox import Letterbox

DARK_LUMA = 8.0
"""Mean grey (0 to 255) below which most people are not found any more (docs/operations.md has the measurement)."""

BLURRED_SHARPNESS = 0.0015
"""Sharpness below which most people are not found any more."""


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """What was measured of one picture, as the network gets it.

    Attributes:
        luma: mean grey, 0 to 255.
        sharpness: variance of the Laplacian of the grey picture over the square of its mean, so that it falls with blur and not with light.
    """

    luma: float
    sharpness: float

    @property
    def obstacle(self) -> Literal["too_dark", "blurred"] | None:
        """What keeps people from being seen, None where nothing does."""
        if self.luma < DARK_LUMA:
            return "too_dark"
        return "blurred" if self.sharpness < BLURRED_SHARPNESS else None


def visibility(images: NDArray[np.uint8], letterbox: Letterbox) -> ImageQuality:
    """Measures the picture, without its padding, in an engine's input.

    Args:
        images: uint8 (1, H, W, 3), RGB.
    """
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    grey = cv2.cvtColor(images[0, letterbox.top : bottom, letterbox.left : right], cv2.COLOR_RGB2GRAY)  # (h, w)
    luma = float(grey.mean())
    return ImageQuality(luma, float(cv2.Laplacian(grey, cv2.CV_32F).var()) / max(1.0, luma) ** 2)
