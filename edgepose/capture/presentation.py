"""How a video is meant to be shown: which track, in which colors, turned how, with pixels of which shape, and what of it never."""

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import cv2
import msgspec
import numpy as np
from av.filter import Graph
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from edgepose.errors import SourceError

_MATRIX = struct.Struct("=9i")  # FFmpeg's display matrix: a b u c d v x y w, native byte order (libavutil/display.h)

_EXTRA = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_IMAGE_CODECS = ("mjpeg", "png", "bmp", "webp", "tiff", "gif", "jpegxl")
_STILL_BELOW_S = 0.2  # a track of an image codec that is shorter than this, in a file with another video, is a cover

PHOTOGRAPH_BRANDS = ("avif", "heic", "heim", "heis", "heix", "mif1", "msf1")
"""Brands of ISO/IEC 23008-12: each tile of such a picture is a track, and so is its thumbnail."""

_ASPECT_LIMIT = 8
"""Pixels more elongated than this are a damaged header, not a format."""

_SPAN_PERCENTILES = (0.5, 99.5)
_SPAN_SHARE = 0.1  # of a new span in the one that is used
_SPAN_STEP = 4  # of the pixels that the span is measured on
_LEAST_SPAN = 64.0  # counts: 0.6 to 2.6 kelvin of the usual cameras


_POOLED_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
"""Formats for which a graph gives the bytes of the scaler by itself, as long as the size stays."""

_TIME_BASE = Fraction(1, 1000)  # of the frames in a graph, whose times nobody reads


class RgbConverter:
    """A converter of the frames of one video to RGB, in memory that is used again; one thread owns it.

    FFmpeg's scaler by itself allocates each frame anew: with the allocator's settings of the daemon (`edgepose.supervision.malloc`), the
    kernel then clears 2.7 MB at 720p for each frame, which costs more than the conversion. A filter graph takes its frames from a pool, and
    converts with the same scaler to the same values.
    """

    def __init__(self, **options: Any) -> None:
        """
        Args:
            options: of `VideoReformatter.reformat`.
        """
        self._options = options
        self._reformatter = VideoReformatter()
        self._layout: tuple[Any, ...] | None = None
        self._graph: Graph | None = None

    def convert(self, decoded: Any, width: int) -> NDArray[np.uint8]:
        """Return a decoded frame of PyAV as RGB, uint8 (H, W, 3), which no other frame shares.

        Args:
            decoded: the frame.
            width: of the result; the height stays.
        """
        name = decoded.format.name
        if width != decoded.width or name not in _POOLED_FORMATS:
            converted: Any = self._reformatter.reformat(decoded, width, decoded.height, format="rgb24", **self._options)
        else:
            layout = (width, decoded.height, name, decoded.colorspace, decoded.color_range)
            if self._graph is None or layout != self._layout:
                self._layout, self._graph = layout, _graph(decoded)
            self._graph.push(decoded)
            converted = self._graph.pull()
        image: NDArray[np.uint8] = converted.to_ndarray()
        return image


def _graph(decoded: Any) -> Graph:
    """Return a graph that converts frames like this one."""
    graph = Graph()
    source = graph.add_buffer(width=decoded.width, height=decoded.height, format=decoded.format, time_base=_TIME_BASE)
    graph.link_nodes(
        source,
        graph.add("scale", f"{decoded.width}:{decoded.height}:flags=bilinear:threads=1"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    )
    graph.configure()
    return graph


def blackened(image: NDArray[np.uint8], masks: Mapping[str, Sequence[tuple[float, float]]]) -> NDArray[np.uint8]:
    """Return an image whose masks are black, the pixels on their edges too.

    Args:
        image: uint8 (H, W, 3); changed in place where that is possible.
        masks: corners of areas by name, as fractions of width and height.
    """
    if not masks:
        return image
    if not (image.flags.writeable and image.flags.c_contiguous):
        image = np.ascontiguousarray(image).copy()
    size = np.array((image.shape[1], image.shape[0]))
    for corners in masks.values():
        outline = np.round(np.array(corners) * size).astype(np.int32)
        cv2.fillPoly(image, [outline], (0, 0, 0))
        cv2.polylines(image, [outline], isClosed=True, color=(0, 0, 0), thickness=3)  # what rounding left out
    return image


class Orientation(msgspec.Struct, frozen=True):
    """One of the eight ways to turn and mirror an image.

    Attributes:
        transposed: whether rows become columns, before the image is mirrored.
        mirrored: whether left becomes right.
        upended: whether top becomes bottom.
    """

    transposed: bool = False
    mirrored: bool = False
    upended: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> "Orientation":
        """Return the orientation that comes closest to a display matrix: a point (p, q) is shown at (a p + c q, b p + d q)."""
        if len(matrix) < _MATRIX.size:
            return cls()
        a, b, _, c, d, *_ = _MATRIX.unpack_from(matrix)
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image, (H, W, 3), as it is meant to be shown; contiguous."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        if self.mirrored:
            image = image[:, ::-1]
        if self.upended:
            image = image[::-1]
        return np.ascontiguousarray(image)


def display_width(width: int, pixel_aspect: Fraction | float | None) -> int:
    """Return the width of an image after its pixels are made square, as players do: the height stays.

    Args:
        width: stored width in pixels.
        pixel_aspect: width of a stored pixel divided by its height; None, or a value that no format has, counts as 1.
    """
    return max(1, round(width * usable_aspect(pixel_aspect)))


def usable_aspect(pixel_aspect: Fraction | float | None) -> Fraction | float:
    """Return a pixel aspect ratio, or 1 where it is absent or a value that no format has."""
    if not pixel_aspect or not Fraction(1, _ASPECT_LIMIT) <= pixel_aspect <= _ASPECT_LIMIT:
        return 1
    return pixel_aspect


def choose_track(container: Any, where: str) -> tuple[Any, str | None]:
    """Return the video track to be read, and a sentence about the choice where there was one.

    Cover art and thumbnails are no video. Of several videos, the one flagged as default is read, or the first.

    Args:
        container: an open container of PyAV.
        where: name of the source in messages.

    Raises:
        SourceError: there is no video, or a picture that consists of tiles, of which each is a track.
    """
    tracks = list(container.streams.video)
    if not tracks:
        raise SourceError(f"{where} has no video stream; expected a source with video", "no_video")
    photograph = container.metadata.get("major_brand", "") in PHOTOGRAPH_BRANDS
    if (photograph and len(tracks) > 1) or any(track.disposition & Disposition.dependent for track in tracks):
        raise SourceError(
            f"{where} consists of {len(tracks)} tiles or pictures (HEIC or AVIF), which are not put together here; expected a JPEG",
            "unsupported",
        )
    videos = [track for track in tracks if not _is_cover(track)] if len(tracks) > 1 else tracks
    covers = len(tracks) - len(videos)
    if not videos:
        videos, covers = tracks, 0
    chosen = next((track for track in videos if track.disposition & Disposition.default), videos[0])
    if len(videos) > 1:
        number, why = videos.index(chosen) + 1, "flagged as default" if chosen.disposition & Disposition.default else "the first"
        return chosen, f"{where} has {len(videos)} video tracks; number {number} is read, {why} ({_describe(chosen)})"
    if covers:
        return chosen, f"{where} holds cover art, which is skipped; its video is read ({_describe(chosen)})"
    return chosen, None


def _is_cover(track: Any) -> bool:
    if track.disposition & _EXTRA:
        return True
    if track.codec_context is None or track.codec_context.name not in _IMAGE_CODECS:
        return False
    duration_s = _duration_s(track)
    return track.frames == 1 or (duration_s is not None and duration_s < _STILL_BELOW_S)


def _duration_s(track: Any) -> float | None:
    if track.duration is not None and track.time_base is not None:
        return float(track.duration * track.time_base)
    return matroska_duration_s(track)


def matroska_duration_s(track: Any) -> float | None:
    """Return the duration that a Matroska file notes for a track in its tags, None where there is none."""
    try:
        hours, minutes, seconds = track.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _describe(track: Any) -> str:
    context = track.codec_context
    return "unknown format" if context is None else f"{context.name}, {context.width} x {context.height}"


class Gray16Span:
    """The counts of 16-bit gray, as thermal cameras send it, that are shown as black and white.

    Args:
        span: darkest and brightest count; None follows each frame, slowly enough that the image does not flicker.
    """

    def __init__(self, span: tuple[float, float] | None = None) -> None:
        self._fixed = span
        self._span: tuple[float, float] | None = None

    def image(self, counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return counts (H, W) as uint8 (H, W, 3), gray."""
        low, high = self._fixed or self._follow(counts)
        scale = 255 / (high - low)
        gray = cv2.convertScaleAbs(cv2.max(cv2.min(counts.astype(np.float32), high), low), alpha=scale, beta=-low * scale)
        shown: NDArray[np.uint8] = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
        return shown

    def _follow(self, counts: NDArray[np.uint16]) -> tuple[float, float]:
        low, high = np.percentile(counts[::_SPAN_STEP, ::_SPAN_STEP], _SPAN_PERCENTILES).tolist()
        missing = max(0.0, _LEAST_SPAN - (high - low)) / 2  # of a scene of one temperature: its noise is not to be enlarged
        low, high = low - missing, high + missing
        if self._span is not None:
            low, high = (old + _SPAN_SHARE * (new - old) for old, new in zip(self._span, (low, high), strict=True))
        self._span = low, high
        return low, high
