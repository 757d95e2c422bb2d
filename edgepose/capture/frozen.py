"""Detection of a camera that repeats one image without end; time is passed in."""

import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MotionState = Literal["moving", "frozen", "still"]

_STRIDE = 16
"""Every 16th pixel of every 16th row, in green: 4 us at 720p, 40 to 120 us at 2160p. Sensor noise changes some of them in every frame."""


def fingerprint(image: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return height, width and checksum of a sample of an image, uint8 (H, W, 3): equal for equal images."""
    height, width = image.shape[:2]
    return height, width, zlib.crc32(image[::_STRIDE, ::_STRIDE, 1].tobytes())


class FrozenDetector:
    """A detector of a frozen image that also recognizes it after the camera was reopened.

    One detector serves a camera across all its connections: a stuck encoder sends the same image to every new one.

    Args:
        frozen_after_s: longest time that the image may stay the same; 0 disables this.
    """

    def __init__(self, frozen_after_s: float) -> None:
        self._frozen_after_s = frozen_after_s
        self._last: tuple[int, int, int] | None = None
        self._since_s = self._updated_s = 0.0
        self._frozen = False

    def opened(self, now_s: float) -> None:
        """Note that the camera was reopened, at a monotonic time in seconds; a frozen one gets `frozen_after_s` to change.

        The time while it was closed does not count, since it is unknown whether the image changed.
        """
        self._since_s = now_s if self._frozen else self._since_s + now_s - self._updated_s
        self._updated_s = now_s

    def update(self, image: NDArray[np.uint8], now_s: float) -> MotionState:
        """Return `moving`, `frozen` (the camera should be reopened) or `still` (it was reopened and has not changed yet).

        Args:
            image: uint8 (H, W, 3).
            now_s: monotonic time, seconds.
        """
        if not self._frozen_after_s:
            return "moving"
        current = fingerprint(image)
        self._updated_s = now_s
        if current != self._last:
            self._last, self._since_s, self._frozen = current, now_s, False
        elif now_s - self._since_s >= self._frozen_after_s:
            self._frozen = True
            return "frozen"
        return "still" if self._frozen else "moving"
