"""Tiny videos in which every frame has a gray of its own, so that a test knows which one it got."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np


def gray_level(index: int) -> int:
    """Return the gray of a frame by its number."""
    return 20 + 10 * (index % 20)


def write_video(
    path: Path, pictures: int = 12, *, rate: int = 10, size: tuple[int, int] = (96, 64), codec: str = "mpeg4", index: int = 0
) -> Path:
    """Write a video of `pictures` plain frames; size is width and height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"g": "5", "qscale": "2"}
        for number in range(index, index + pictures):
            image = np.full((size[1], size[0], 3), gray_level(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbers(grays: Sequence[float]) -> list[int]:
    """Return the numbers of the frames with these grays (modulo 20)."""
    return [round((value - 20) / 10) for value in grays]
