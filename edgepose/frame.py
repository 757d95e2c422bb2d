"""The frame that flows from a camera to the engine."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Clock = Literal["rtcp", "stream", "host"]

NS_PER_S = 1_000_000_000
"""Nanoseconds per second. Times are integers in nanoseconds throughout, durations in settings are in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of one camera.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        captured_at_ns: capture time in nanoseconds since the Unix epoch (UTC), as accurate as `clock` is.
        clock: where that time comes from: `rtcp` (the camera's own clock, through RTCP sender reports), `stream` (presentation times
            anchored to the host's clock) or `host` (the host's clock on arrival).
        sequence: number of this frame within its epoch, from 0; every decoded frame counts, so a gap means dropped frames.
        camera: name of the camera in the configuration.
        epoch: number of times the source was opened before, from 0; trackers restart when it changes.
        file: path of the file that the frame comes from, as the user named it; empty for a stream.
        pixel_aspect: width of a stored pixel divided by its height; the image is scaled to square pixels.
        full_size: width and height of a picture that was read at a fraction of its size; None where the image is the whole.
    """

    image: NDArray[np.uint8]
    captured_at_ns: int
    clock: Clock
    sequence: int
    camera: str
    epoch: int = 0
    file: str = ""
    pixel_aspect: float = 1.0
    full_size: tuple[int, int] | None = None

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.image.shape[1])
