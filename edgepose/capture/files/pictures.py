"""Pictures from the bytes of an image file: upright, all frames of an animation, all pages of a document, large JPEGs at a fraction."""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

REDUCE_ABOVE_BYTES = 96 * 2**20
"""A JPEG whose image would be larger than this is decoded at a half, a quarter or an eighth of its size, which costs a fraction."""

ALL_FRAMES_UP_TO_BYTES = 512 * 2**20
"""An animation is decoded at once; of a larger one, the first frames are read."""

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture, or one frame of an animation.

    Attributes:
        image: uint8 (H, W, 3), RGB, upright.
        full_size: width and height of the upright picture in the file, where `image` is a fraction of it; None where it is the whole.
        duration_ms: how long a frame of an animation is shown; 0 for a picture, and for a page.
    """

    image: NDArray[np.uint8]
    full_size: tuple[int, int] | None = None
    duration_ms: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The pictures in one file.

    Attributes:
        pictures: those that were decoded; never empty.
        left_out: number of further ones, which do not fit into `ALL_FRAMES_UP_TO_BYTES`, or which this version of OpenCV cannot read.
    """

    pictures: list[Picture]
    left_out: int = 0


def decode_pictures(encoded: bytes) -> Pictures | None:
    """Return the pictures in an image file, None where it cannot be decoded.

    OpenCV applies the orientation that Exif gives (all eight), in JPEG, PNG, WebP and TIFF.
    """
    data = np.frombuffer(encoded, np.uint8)
    if not data.size:
        return None
    try:
        if _may_hold_several(encoded):
            several = _decode_several(data, encoded)
            if several is not None:
                return several
        size = jpeg_size(encoded)
        factor = reduction(size) if size is not None else 1
        image = cv2.imdecode(data, _REDUCED[factor])
        if image is None:
            return None
        full_size = None if size is None or factor == 1 else _upright(size, factor, image.shape)
        return Pictures([Picture(_rgb(image), full_size)])
    except cv2.error:  # a damaged file, or a picture beyond the limits of the library
        return None


def reduction(size: tuple[int, int]) -> int:
    """Return by which factor (1, 2, 4 or 8) a JPEG of this width and height is reduced while it is decoded."""
    return next((factor for factor in (1, 2, 4) if size[0] * size[1] * 3 // factor**2 <= REDUCE_ABOVE_BYTES), 8)


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of a JPEG as stored, None for another format (ITU-T T.81, B.2)."""
    if encoded[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(encoded):
        if encoded[at] != 0xFF:
            return None
        marker = encoded[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", encoded, at + 5)
            return (width, height) if width and height else None
        else:
            at += 2 + max(2, int.from_bytes(encoded[at + 2 : at + 4], "big"))
    return None


def _upright(size: tuple[int, int], factor: int, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the size of the whole picture, upright: Exif may have turned the reduced image by a quarter."""
    width, height = size
    as_stored = abs(shape[1] - width / factor) + abs(shape[0] - height / factor)
    turned = abs(shape[1] - height / factor) + abs(shape[0] - width / factor)
    return (width, height) if as_stored <= turned else (height, width)


def _may_hold_several(encoded: bytes) -> bool:
    if encoded[:8] == b"\x89PNG\r\n\x1a\n":
        return b"acTL" in encoded[: max(0, encoded.find(b"IDAT"))]  # APNG: before the image data
    if encoded[:4] == b"RIFF" and encoded[8:16] == b"WEBPVP8X":
        return bool(encoded[20] & 0x02)  # WebP container specification: animation
    return encoded[:4] in (b"II*\0", b"MM\0*") and _has_second_page(encoded)


def _has_second_page(encoded: bytes) -> bool:
    """Return whether the first directory of a TIFF names a next one (TIFF 6.0, section 2)."""
    order = "<" if encoded[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", encoded, 4)
        (entries,) = struct.unpack_from(f"{order}H", encoded, directory)
        (following,) = struct.unpack_from(f"{order}I", encoded, directory + 2 + 12 * entries)
    except struct.error:
        return False
    return bool(following)


def _decode_several(data: NDArray[np.uint8], encoded: bytes) -> Pictures | None:
    """Return all frames or pages that fit; None where the file holds one picture after all, or where OpenCV is too old."""
    first = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if first is None or not hasattr(cv2, "imdecodeanimation"):  # OpenCV 4.11
        return None
    most = max(1, ALL_FRAMES_UP_TO_BYTES // (first.shape[0] * first.shape[1] * 4))
    if encoded[:2] in (b"II", b"MM"):
        done, pages = cv2.imdecodemulti(data, cv2.IMREAD_COLOR, range=(0, most + 1))
        if not done or len(pages) < 2:
            return None
        return Pictures([Picture(_rgb(page)) for page in pages[:most]], len(pages) - most if len(pages) > most else 0)
    done, animation = cv2.imdecodeanimation(data, 0, most + 1)
    if not done or len(animation.frames) < 2:
        return None
    frames = animation.frames[:most]
    durations = [int(duration) for duration in animation.durations]
    left_out = max(0, len(animation.frames) - most)
    return Pictures([Picture(_rgb(frame), None, duration) for frame, duration in zip(frames, durations, strict=False)], left_out)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    code = cv2.COLOR_BGRA2RGB if image.ndim == 3 and image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    converted: NDArray[np.uint8] = cv2.cvtColor(image, code)
    return converted
