"""Bounds of what a camera or a file may cost: they are checked before memory is allocated.

What counts of a picture is the memory of decoding it: the image (3 bytes a pixel) after it was scaled, and the coefficients of a
progressive JPEG, which its decoder keeps whole. A JPEG can be decoded at a half, a quarter or an eighth of its size, so a large photograph
is read at a fraction. Any other picture above the limit is refused.
"""

import struct

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import SourceError

MB = 1_000_000

REDIRECTS = 5
"""Redirects that lead to one answer."""

HEADER_BYTES = 65_536
"""All headers of one answer together."""

PLAYLIST_BYTES = 1 * MB
"""One HLS playlist: of 4-second segments with long names, more than an hour."""

REQUESTS_WITHOUT_FRAME = 30
"""Segments and playlists that may be requested of an HLS server until the next frame."""

FORMATS = (
    "mpegts,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,flv,live_flv,avi,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,m4v,mjpeg,mjpeg_2000,mpjpeg,ogg,asf,"
    "nut,rtp,gif,apng,jpeg_pipe,png_pipe,webp_pipe,bmp_pipe,wav,mp3,aac,flac,ac3"
)
"""Formats of FFmpeg that a network stream may have: those that name no further addresses or files."""

file_options: dict[str, str] = {}
"""Further options of FFmpeg for video files, in the whole process: `format_whitelist` and the like, where files come from strangers."""

_IMAGE_CHANNELS = 3
_FACTORS = (1, 2, 4, 8)
_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_TO_RGB = getattr(cv2, "IMREAD_COLOR_RGB", 0)  # OpenCV 4.11
if _TO_RGB:  # it stands in the place of IMREAD_COLOR
    _FLAGS = {factor: flag & ~cv2.IMREAD_COLOR | _TO_RGB for factor, flag in _FLAGS.items()}
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # ITU-T T.81, table B.1
_KEEPS_COEFFICIENTS = frozenset((0xC2, 0xC6, 0xCA, 0xCE))  # progressive
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


class PictureHeader(msgspec.Struct, frozen=True):
    """What the header of a picture says.

    Attributes:
        kind: `jpeg`, `png`, `webp`, `bmp`, `gif`, `pnm` or `tiff`.
        width, height: in pixels.
        coefficient_bytes: memory that the decoder keeps for the whole picture beside the image.
    """

    kind: str
    width: int
    height: int
    coefficient_bytes: int = 0

    @property
    def factors(self) -> tuple[int, ...]:
        """By which factors the picture can be reduced while it is decoded."""
        return _FACTORS if self.kind == "jpeg" else (1,)

    def bytes_at(self, factor: int) -> int:
        """Return the memory of decoding it at a fraction of its size."""
        return -(-self.width // factor) * -(-self.height // factor) * _IMAGE_CHANNELS + self.coefficient_bytes


def maximum_pixels(limit_bytes: int) -> int:
    """Return the largest number of pixels whose image fits into a limit."""
    return max(1, limit_bytes // _IMAGE_CHANNELS)


def refuse_large_video(width: int, height: int, limit_bytes: int, where: str) -> None:
    """Raise `SourceError` where the frames of a video do not fit into a limit."""
    if width * height > maximum_pixels(limit_bytes):
        raise _too_large(f"has frames of {width}x{height} pixels", width * height * _IMAGE_CHANNELS, limit_bytes, where)


def refuse_large_part(size_bytes: int, limit_bytes: int, where: str) -> None:
    """Raise `SourceError` where an encoded picture, or the data without a frame, is larger than the frame could ever be."""
    if size_bytes > limit_bytes:
        raise SourceError(
            f"{where} sent {size_bytes / MB:.0f} MB without a complete frame; expected at most {limit_bytes / MB:.0f} MB", "too_large"
        )


def reduction(header: PictureHeader, limit_bytes: int, where: str) -> int:
    """Return by which factor (1, 2, 4 or 8) a picture is reduced while it is decoded, so that it fits into a limit.

    Raises:
        SourceError: it does not fit at any factor; one sentence with both figures.
    """
    for factor in header.factors:
        if header.bytes_at(factor) <= limit_bytes:
            return factor
    smallest = min(header.bytes_at(factor) for factor in header.factors)
    raise _too_large(f"holds a picture of {header.width}x{header.height} pixels", smallest, limit_bytes, where)


def decode_picture(encoded: bytes, limit_bytes: int, where: str) -> tuple[NDArray[np.uint8], int] | None:
    """Return an encoded picture as uint8 (H, W, 3), RGB, upright, and by which factor it was reduced; None where it cannot be decoded.

    Raises:
        SourceError: it is too large.
    """
    header = read_header(encoded)
    if header is None:
        return None
    factor = reduction(header, limit_bytes, where)
    image = decode_reduced(np.frombuffer(encoded, np.uint8), factor)
    return None if image is None else (image, factor)


def decode_reduced(encoded: NDArray[np.uint8], factor: int) -> NDArray[np.uint8] | None:
    """Return an encoded picture at a fraction of its size (1, 2, 4 or 8) as uint8 (H, W, 3), RGB, upright; None where it is damaged."""
    try:
        image = cv2.imdecode(encoded, _FLAGS[factor])
    except cv2.error:  # damaged, or beyond the limits of the library
        return None
    if image is None:
        return None
    return np.asarray(image if _TO_RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_header(encoded: bytes) -> PictureHeader | None:
    """Return what the header of a picture says, None where it is of no known format or cut."""
    try:
        header = _read_header(encoded)
    except (struct.error, IndexError, ValueError):
        return None
    return header if header is not None and header.width > 0 and header.height > 0 else None


def _read_header(encoded: bytes) -> PictureHeader | None:
    if encoded[:2] == b"\xff\xd8":
        return _jpeg(encoded)
    if encoded[:8] == b"\x89PNG\r\n\x1a\n":
        return PictureHeader("png", *struct.unpack_from(">II", encoded, 16))
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return _webp(encoded)
    if encoded[:2] == b"BM":
        width, height = struct.unpack_from("<ii", encoded, 18)
        return PictureHeader("bmp", width, abs(height))
    if encoded[:4] == b"GIF8":
        return PictureHeader("gif", *struct.unpack_from("<HH", encoded, 6))
    if encoded[:1] == b"P" and encoded[1:2] in b"123456":
        fields = [field for line in encoded[2:512].split(b"\n") for field in line.partition(b"#")[0].split()]
        return PictureHeader("pnm", int(fields[0]), int(fields[1]))
    if encoded[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(encoded)
    return None


def _jpeg(encoded: bytes) -> PictureHeader | None:
    """Return what a JPEG says in its frame header (ITU-T T.81, B.2.2)."""
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
            height, width, components = struct.unpack_from(">HHB", encoded, at + 5)
            factors = [encoded[at + 11 + 3 * index] for index in range(components)]
            most = max((factor >> 4) * (factor & 15) for factor in factors)
            samples = sum(width * height * (factor >> 4) * (factor & 15) / max(1, most) for factor in factors)
            return PictureHeader("jpeg", width, height, round(2 * samples) if marker in _KEEPS_COEFFICIENTS else 0)
        else:
            at += 2 + max(2, int.from_bytes(encoded[at + 2 : at + 4], "big"))
    return None


def _webp(encoded: bytes) -> PictureHeader | None:
    """Return what a WebP says (RFC 9649, 2.5-2.7)."""
    chunk = encoded[12:16]
    if chunk == b"VP8X":
        return PictureHeader("webp", *(1 + int.from_bytes(encoded[at : at + 3], "little") for at in (24, 27)))
    if chunk == b"VP8L":
        bits = int.from_bytes(encoded[21:25], "little")
        return PictureHeader("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    width, height = struct.unpack_from("<HH", encoded, 26)
    return PictureHeader("webp", width & 0x3FFF, height & 0x3FFF)


def _tiff(encoded: bytes) -> PictureHeader | None:
    """Return the largest size that the directories of a TIFF name (TIFF 6.0, section 2)."""
    order = "<" if encoded[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", encoded, 4)
    sizes: list[tuple[int, int]] = []
    while directory and len(sizes) < 1000:
        (entries,) = struct.unpack_from(f"{order}H", encoded, directory)
        values = {256: 0, 257: 0}
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", encoded, at)
            if tag in values:
                (values[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), encoded, at + 8)
        sizes.append((values[256], values[257]))
        (directory,) = struct.unpack_from(f"{order}I", encoded, directory + 2 + 12 * entries)
    return PictureHeader("tiff", *max(sizes, key=lambda size: size[0] * size[1]))


def _too_large(what: str, needed_bytes: int, limit_bytes: int, where: str) -> SourceError:
    return SourceError(
        f"{where} {what}, which takes {needed_bytes / MB:.0f} MB; expected at most {limit_bytes / MB:.0f} MB (`frame_limit_mb`)",
        "too_large",
    )
