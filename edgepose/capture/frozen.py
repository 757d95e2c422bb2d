"""A camera that sends one and the same picture without end: pure, time passed in."""

import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MotionVerdict = Literal["moving", "frozen", "still"]

_STRIDE = 16
"""Every 16th pixel of every 16th row, in green: 4 us at 720p, 40 to 120 us at 2160p. A sensor's noise changes some of them each time."""


def fingerprint(image: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return height, width and checksum of a sample of an image, uint8 (H, W, 3): equal for equal images."""
    height, width = image.shape[:2]
    return height, width, zlib.crc32(image[::_STRIDE, ::_STRIDE, 1].tobytes())


class FrozenWatch:
    """Notices that a camera's picture stands still, and that it still does when the camera was opened anew.

    One for each camera, whatever becomes of its connections: an encoder that is stuck gives the same picture to every new one.

    Args:
        frozen_after_s: so long may the picture stay the same; 0 for ever.
    """

    def __init__(self, frozen_after_s: float) -> None:
        self._frozen_after_s = frozen_after_s
        self._seen: tuple[int, int, int] | None = None
        self._since_s = self._looked_s = 0.0
        self._frozen = False

    def opened(self, now_s: float) -> None:
        """Note that the camera was opened anew, at a monotonic time in seconds: a frozen one gets `frozen_after_s` to move.

        While it was closed nobody knows whether it stood still: that time does not count.
        """
        self._since_s = now_s if self._frozen else self._since_s + now_s - self._looked_s
        self._looked_s = now_s

    def look(self, image: NDArray[np.uint8], now_s: float) -> MotionVerdict:
        """Return `moving`; `frozen`, when it is time to open the camera anew; `still`: frozen before, and that did not help yet.

        Args:
            image: uint8 (H, W, 3).
            now_s: monotonic time, seconds.
        """
        if not self._frozen_after_s:
            return "moving"
        seen = fingerprint(image)
        self._looked_s = now_s
        if seen != self._seen:
            self._seen, self._since_s, self._frozen = seen, now_s, False
        elif now_s - self._since_s >= self._frozen_after_s:
            self._frozen = True
            return "frozen"
        return "still" if self._frozen else "moving"
