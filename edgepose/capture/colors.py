"""Conversion of decoded frames to RGB, in memory that is used again.

FFmpeg's scaler by itself allocates each frame anew: with the allocator's settings of the daemon (`edgepose.supervision.malloc`), the kernel
then clears 2.7 MB at 720p for each frame, which costs more than the conversion. A filter graph takes its frames from a pool, and converts
with the same scaler to the same values.
"""

from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

_POOLED_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
"""Formats for which a graph gives the bytes of the scaler by itself, as long as the size stays."""

_TIME_BASE = Fraction(1, 1000)  # of the frames in a graph, whose times nobody reads


class RgbConverter:
    """A converter of the frames of one video; one thread owns it."""

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
            converted = self._reformatter.reformat(decoded, width, decoded.height, format="rgb24", **self._options)
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
