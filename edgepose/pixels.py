"""The one gate for pixels: an image is encoded, written or sent as a `ReleasedImage` only, and `PixelGate` alone releases frames.

`tests/test_pixels.py` finds every place of the package that encodes, writes or sends pixels in another way.
"""

from collections.abc import Sequence
from typing import Literal

import av
import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.person import HEAD_KEYPOINTS, SHOULDER_KEYPOINTS, Person

Pixels = Literal["never", "blurred", "allowed"]

_CELLS = 5  # of the mosaic over a head, on each side: too few to recognize a face in
_HEAD_SHARE = 0.11  # least radius of a head, as a share of the long side of the person's box
_UPPER_SHARE = 0.2  # of the box, where no head keypoint is visible


class ReleasedImage(msgspec.Struct, frozen=True, eq=False):
    """An image that may leave the process.

    Attributes:
        image: uint8 (H, W, 3), RGB.
    """

    image: NDArray[np.uint8]

    def derived(self, image: NDArray[np.uint8]) -> "ReleasedImage":
        """Return an image that was made of this one alone, such as a smaller one, or one with drawings."""
        return ReleasedImage(image)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.image.shape[0])


def unguarded(image: NDArray[np.uint8]) -> ReleasedImage:
    """Return an image that no camera of a configuration took: it is made up, or the caller's own. RGB, uint8 (H, W, 3)."""
    return ReleasedImage(image)


class PixelGate:
    """The gate that `privacy.pixels` sets."""

    def __init__(self, pixels: Pixels, keypoint_threshold: float) -> None:
        """
        Args:
            pixels: what may leave.
            keypoint_threshold: confidence from which a keypoint of the head counts.
        """
        self.pixels = pixels
        self._threshold = keypoint_threshold

    def release(self, image: NDArray[np.uint8], people: Sequence[Person]) -> ReleasedImage:
        """Return what may leave of a frame: with `blurred`, a copy in which each person's head is a mosaic.

        Args:
            image: uint8 (H, W, 3), RGB; it does not change.
            people: all people in it, in its pixels. Nobody else is blurred.

        Raises:
            ConfigError: nothing may leave.
        """
        if self.pixels == "never":
            raise ConfigError("privacy.pixels is never: no image leaves this process; expected blurred or allowed")
        if self.pixels == "allowed":
            return ReleasedImage(image)
        blurred = image.copy()
        for person in people:
            _hide(blurred, head_area(person, self._threshold))
        return ReleasedImage(blurred)


def head_area(person: Person, keypoint_threshold: float) -> tuple[float, float, float, float]:
    """Return the area of a person's head (left, top, right, bottom): around its keypoints, else the upper fifth of the box."""
    left, top, right, bottom = (float(value) for value in person.box)
    keypoints = person.keypoints  # (17, 3)
    visible = (keypoints[:, 2] >= keypoint_threshold) & np.isfinite(keypoints).all(axis=1)
    head = [index for index in HEAD_KEYPOINTS if visible[index]]
    if not head:
        return left, top, right, top + _UPPER_SHARE * (bottom - top)
    points = keypoints[head, :2].astype(np.float64)
    center = points.mean(axis=0)
    radius = max(_HEAD_SHARE * max(right - left, bottom - top), 1.5 * float(np.linalg.norm(points - center, axis=1).max()))
    if all(visible[index] for index in SHOULDER_KEYPOINTS):
        first, second = keypoints[list(SHOULDER_KEYPOINTS), :2].astype(np.float64)
        radius = max(radius, 0.6 * float(np.linalg.norm(first - second)))
    return center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius


def encode_picture(image: ReleasedImage, suffix: str, *, quality: int = 92) -> bytes:
    """Return an image as a file, with no metadata.

    Args:
        image: to encode.
        suffix: `.jpg` or `.png`.
        quality: of a JPEG, 0 to 100.

    Raises:
        ValueError: OpenCV cannot encode it.
    """
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    encoded, content = cv2.imencode(suffix, cv2.cvtColor(image.image, cv2.COLOR_RGB2BGR), settings)
    if not encoded:
        raise ValueError(f"an image of {image.width} x {image.height} cannot be encoded as {suffix}")
    return content.tobytes()


def video_frame(image: ReleasedImage) -> "av.VideoFrame":
    """Return an image as a frame for an encoder."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image.image), format="rgb24")


def _hide(image: NDArray[np.uint8], area: tuple[float, float, float, float]) -> None:
    """Replace an area of an image by a mosaic of few cells."""
    height, width = image.shape[:2]
    left, top = max(0, int(np.floor(area[0]))), max(0, int(np.floor(area[1])))
    right, bottom = min(width, int(np.ceil(area[2]))), min(height, int(np.ceil(area[3])))
    if left >= right or top >= bottom:
        return
    part = image[top:bottom, left:right]
    cells = cv2.resize(part, (min(_CELLS, right - left), min(_CELLS, bottom - top)), interpolation=cv2.INTER_AREA)
    image[top:bottom, left:right] = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
