"""Pictures that a program passes to the Python API: what is accepted, and what is said of the rest."""

import os
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import UsageError


class PilPicture(Protocol):
    """A picture of the library Pillow, `PIL.Image.Image`."""

    @property
    def mode(self) -> str:
        """Kind of its pixels, such as `RGB`."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def convert(self, mode: str) -> Any:
        """Return it with pixels of another kind."""
        ...


PictureInput = str | os.PathLike[str] | NDArray[Any] | PilPicture
"""A path or URL, an array, or a picture of Pillow. An array is uint8 (H, W, 3); its type says less, as that of `cv2.imread` does."""

_ARRAY = "expected uint8 (height, width, 3), BGR as OpenCV reads it, or RGB with rgb=True"
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "LAB")
_SIDE_LIMIT_PX = 32_767  # OpenCV's functions that scale a picture take no longer side


def rgb_of(picture: object, *, rgb: bool, name: str) -> NDArray[np.uint8]:
    """Return a copy of an array, or of a picture of Pillow, as uint8 (H, W, 3) RGB.

    Args:
        rgb: whether the channels of an array are red, green and blue, in this order; otherwise blue, green and red.
        name: of the picture in messages, such as `image 3`.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(picture, np.ndarray):
        _check(picture, name)
        return np.array(picture, order="C") if rgb else _swapped(picture)
    if all(hasattr(picture, attribute) for attribute in ("mode", "size", "convert")):
        return _of_pil(picture, name)
    raise UsageError(f"{name} is of type {type_name(picture)}; expected a path, a URL, an array of NumPy or a picture of Pillow")


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _swapped(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    swapped: NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_BGR2RGB)
    return swapped


def _check(array: NDArray[Any], name: str) -> None:
    """Raise a UsageError that says what is wrong with an array, and how it becomes right."""
    found = f"{name} is {array.dtype} {array.shape}"
    if not array.size:
        raise UsageError(f"{found}, which has no pixels; {_ARRAY}")
    if array.dtype != np.uint8:
        remedy = ""
        if np.issubdtype(array.dtype, np.floating):
            remedy = ": of values from 0 to 1, (image * 255).round().astype('uint8')"
        elif array.dtype == np.uint16:
            remedy = ": of 16 bits, (image // 256).astype('uint8')"
        raise UsageError(f"{found}; {_ARRAY}{remedy}")
    if array.ndim == 4:
        raise UsageError(f"{found}; {_ARRAY}: a batch is a list of pictures, list(images)")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        raise UsageError(f"{found}, a gray picture; {_ARRAY}: cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)")
    if array.ndim == 3 and array.shape[2] == 4:
        raise UsageError(f"{found}, a picture with transparency; {_ARRAY}: cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)")
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        raise UsageError(f"{found}, channels first; {_ARRAY}: image.transpose(1, 2, 0)")
    if array.ndim != 3 or array.shape[2] != 3:
        raise UsageError(f"{found}; {_ARRAY}")
    if max(array.shape) > _SIDE_LIMIT_PX:
        raise UsageError(f"{found}; expected sides of at most {_SIDE_LIMIT_PX} pixels")


def _of_pil(picture: Any, name: str) -> NDArray[np.uint8]:
    if picture.mode not in _EIGHT_BITS:
        raise UsageError(f"{name} is a picture of Pillow in mode {picture.mode}; expected one of 8 bits a channel, such as RGB")
    pixels: NDArray[np.uint8] = np.array(picture.convert("RGB"), np.uint8)
    _check(pixels, name)
    return pixels
