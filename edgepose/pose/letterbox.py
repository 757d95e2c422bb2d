"""Letterbox: resizes a frame into the network input with its aspect kept, and maps points between both.

Positions are continuous and (0, 0) is the top-left corner of the top-left pixel, so that resizing maps points by pure
scaling (cv2.resize aligns pixel centers in the same way).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ModelError
from edgepose.model.file import ModelInfo
from edgepose.pose.buffers import Scratch
from edgepose.pose.resize import resize


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Layout of a resized frame and its padding in the network input.

    Attributes:
        source_height, source_width: size of the frame in pixels.
        height, width: size of the network input in pixels.
        content_height, content_width: size of the resized frame in the input.
        top, left: its top-left corner in the input.
        fill: gray value of the padding, 0 to 255.
    """

    source_height: int
    source_width: int
    height: int
    width: int
    content_height: int
    content_width: int
    top: int
    left: int
    fill: int

    @classmethod
    def fit(
        cls,
        source_height: int,
        source_width: int,
        height: int,
        width: int,
        *,
        align: Literal["start", "center"] = "start",
        fill: int = 0,
    ) -> "Letterbox":
        """Return the layout in which a frame fills as much of the input as possible.

        Args:
            source_height, source_width: size of the frame in pixels.
            height, width: size of the network input in pixels.
            align: `start` puts the frame at the top left, as edgepose networks expect; `center` is for Ultralytics networks.
            fill: gray value of the padding, 0 to 255; Ultralytics networks expect 114.

        Raises:
            ValueError: a size is not positive.
        """
        if min(source_height, source_width, height, width) <= 0:
            raise ValueError(f"a {source_width}x{source_height} frame does not fit into a {width}x{height} input; expected positive sizes")
        scale = min(height / source_height, width / source_width)
        content_height = min(height, max(1, round(source_height * scale)))
        content_width = min(width, max(1, round(source_width * scale)))
        centered = align == "center"
        top = (height - content_height) // 2 if centered else 0
        left = (width - content_width) // 2 if centered else 0
        return cls(source_height, source_width, height, width, content_height, content_width, top, left, fill)

    @classmethod
    def for_model(cls, info: ModelInfo, source_height: int, source_width: int, input_size: int = 0) -> "Letterbox":
        """Return the layout that a model was trained with.

        Raises:
            ModelError: the model does not accept `input_size`.
        """
        height, width = input_shape(info, source_height, source_width, input_size)
        if info.layout == "ultralytics":
            return cls.fit(source_height, source_width, height, width, align="center", fill=114)
        return cls.fit(source_height, source_width, height, width)

    @property
    def scale_x(self) -> float:
        """Horizontal scale: input pixels per source pixel. It differs from `scale_y` by the rounding of the content to whole pixels."""
        return self.content_width / self.source_width

    @property
    def scale_y(self) -> float:
        """Vertical scale: input pixels per source pixel."""
        return self.content_height / self.source_height

    def apply(self, image: NDArray[np.uint8], out: NDArray[np.uint8] | None = None, scratch: Scratch | None = None) -> NDArray[np.uint8]:
        """Resize and pad a frame.

        Args:
            image: uint8 (source_height, source_width, 3).
            out: uint8 (height, width, 3), buffer to write into, so that a stream allocates no memory; by default a new array.
            scratch: holds what is between, for the same purpose.

        Returns:
            `out`.

        Raises:
            ValueError: a shape or type differs.
        """
        if image.shape != (self.source_height, self.source_width, 3) or image.dtype != np.uint8:
            raise ValueError(f"the frame is {image.dtype} {image.shape}; expected uint8 ({self.source_height}, {self.source_width}, 3)")
        if out is None:
            out = np.empty((self.height, self.width, 3), np.uint8)
        elif out.shape != (self.height, self.width, 3) or out.dtype != np.uint8:
            raise ValueError(f"the buffer is {out.dtype} {out.shape}; expected uint8 ({self.height}, {self.width}, 3)")
        bottom, right = self.top + self.content_height, self.left + self.content_width
        out[: self.top] = self.fill
        out[bottom:] = self.fill
        out[self.top : bottom, : self.left] = self.fill
        out[self.top : bottom, right:] = self.fill
        resize(image, out[self.top : bottom, self.left : right], scratch)
        return out

    def to_input(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) from source pixels to input pixels."""
        return (np.asarray(xy, np.float64) * self._scale() + self._offset()).astype(np.float32)

    def to_source(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) from input pixels to source pixels."""
        points = np.asarray(xy).astype(np.float64)  # first: a calculation that changes the type takes a buffer of 64 KB
        points -= self._offset()
        return np.divide(points, self._scale(), out=points).astype(np.float32)

    def _scale(self) -> NDArray[np.float64]:
        return _pair(self.scale_x, self.scale_y)

    def _offset(self) -> NDArray[np.float64]:
        return _pair(self.left, self.top)


@lru_cache(maxsize=64)
def _pair(x: float, y: float) -> NDArray[np.float64]:
    # Double precision: for a 4K frame reduced sixteenfold, every rounding error would grow by a factor of sixteen.
    pair = np.array((x, y), np.float64)
    pair.flags.writeable = False
    return pair


def input_shape(info: ModelInfo, source_height: int, source_width: int, input_size: int = 0) -> tuple[int, int]:
    """Return (height, width) of the network input for a frame, in pixels.

    If the model file fixes the input size, that is the result. Otherwise the long side is `input_size` (0: the model's
    default) and the short side follows the aspect of the frame, rounded up to a multiple of the stride, so that a wide frame costs
    less than a square one.

    Raises:
        ModelError: the model does not accept `input_size`, or the frame has no pixels.
    """
    long_side = info.long_side(input_size)
    if info.input_height is not None and info.input_width is not None:
        return info.input_height, info.input_width
    if min(source_height, source_width) <= 0:
        raise ModelError(f"a {source_width}x{source_height} frame has no pixels; expected positive sizes")
    short_side = long_side * min(source_height, source_width) / max(source_height, source_width)
    short_side = max(info.stride, -(-round(short_side) // info.stride) * info.stride)
    return (short_side, long_side) if source_width >= source_height else (long_side, short_side)
