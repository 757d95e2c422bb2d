"""Whether anybody could be seen at all: pictures too dark or too blurred for the network."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.pose.letterbox import Letterbox

DARK_LUMA = 12.0
"""Mean grey (0 to 255) below which people are not found any more (docs/operations.md has the measurement)."""

BLURRED_VARIANCE = 25.0
"""Variance of the Laplacian of the network's input below which they are not found any more."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What was measured of one picture, as the network gets it.

    Attributes:
        luma: mean grey, 0 to 255.
        sharpness: variance of the Laplacian of the grey picture; falls with blur, and with the light.
    """

    luma: float
    sharpness: float

    @property
    def obstacle(self) -> Literal["too_dark", "blurred"] | None:
        """What keeps people from being seen, None where nothing does."""
        if self.luma < DARK_LUMA:
            return "too_dark"
        return "blurred" if self.sharpness < BLURRED_VARIANCE else None


def visibility(images: NDArray[np.uint8], letterbox: Letterbox) -> Visibility:
    """Measures the picture, without its padding, in an engine's input.

    Args:
        images: uint8 (1, H, W, 3), RGB.
    """
    bottom, right = letterbox.top + letterbox.content_height, letterbox.left + letterbox.content_width
    grey = cv2.cvtColor(images[0, letterbox.top : bottom, letterbox.left : right], cv2.COLOR_RGB2GRAY)  # (h, w)
    return Visibility(float(grey.mean()), float(cv2.Laplacian(grey, cv2.CV_32F).var()))
