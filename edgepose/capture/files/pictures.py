"""Pictures from the bytes of an image file: upright, all frames of an animation, all pages of a document, large JPEGs at a fraction."""

import struct

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.capture.limits import PictureHeader, decode_reduced, read_header, reduction

REDUCE_ABOVE_BYTES = 96 * 2**20
"""A JPEG whose image would be larger than this is decoded at a half, a quarter or an eighth of its size, which costs a fraction."""


class Picture(msgspec.Struct, frozen=True, eq=False):
    """One decoded picture, or one frame of an animation.

    Attributes:
        image: uint8 (H, W, 3), RGB, upright.
        full_size: width and height of the upright picture in the file, where `image` is a fraction of it; None where it is the whole.
        duration_ms: how long a frame of an animation is shown; 0 for a picture, and for a page.
    """

    image: NDArray[np.uint8]
    full_size: tuple[int, int] | None = None
    duration_ms: int = 0


class Pictures(msgspec.Struct, frozen=True, eq=False):
    """The pictures in one file.

    Attributes:
        pictures: those that were decoded; never empty.
        left_out: number of further ones, which do not fit into the limit.
    """

    pictures: list[Picture]
    left_out: int = 0


def decode_pictures(encoded: bytes, limit_bytes: int, where: str) -> Pictures | None:
    """Return the pictures in an image file, None where it cannot be decoded.

    OpenCV applies the orientation that Exif gives (all eight), in JPEG, PNG, WebP and TIFF.

    Args:
        encoded: content of the file.
        limit_bytes: most memory of the pictures.
        where: name of the file in messages.

    Raises:
        SourceError: the picture is too large, also at a fraction of its size.
    """
    header = read_header(encoded)
    if header is None:
        return None
    data = np.frombuffer(encoded, np.uint8)
    factor = max(reduction(header, limit_bytes, where), _quick_factor(header))
    try:
        if _may_hold_several(encoded):
            several = _decode_several(data, encoded, max(1, limit_bytes // (header.width * header.height * 4)))
            if several is not None:
                return several
        image = decode_reduced(data, factor)
        if image is None:
            return None
        full_size = None if factor == 1 else _upright((header.width, header.height), factor, image.shape)
        return Pictures([Picture(image, full_size)])
    except cv2.error:  # a damaged file, or a picture beyond the limits of the library
        return None


def _quick_factor(header: PictureHeader) -> int:
    """Return by which factor a picture is reduced so that decoding it takes a fraction of the time."""
    pixels = header.width * header.height
    return next((factor for factor in header.factors if pixels * 3 // factor**2 <= REDUCE_ABOVE_BYTES), header.factors[-1])


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


def _decode_several(data: NDArray[np.uint8], encoded: bytes, most: int) -> Pictures | None:
    """Return the first `most` frames or pages; None where the file holds one picture after all, or where OpenCV is too old."""
    if not hasattr(cv2, "imdecodeanimation"):  # OpenCV 4.11
        return None
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
