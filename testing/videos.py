"""Short videos: frames that each have a gray of their own, so that a test knows which one it got, and flights over a picture."""

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
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


def write_flights(folder: Path, picture: Path, count: int, frames: int, key_frames_every: int = 8, long_side: int = 480) -> list[Path]:
    """Write short videos in which a camera moves over a picture of `long_side` pixels; each is another one, with 6/8 of the sides."""
    image = np.asarray(cv2.imread(str(picture)))
    scale = long_side / max(image.shape[:2])
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = image.shape[0] // 8 * 6, image.shape[1] // 8 * 6
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        paths.append(folder / f"clip-{number:02d}.mp4")
        with av.open(str(paths[-1]), "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"g": str(key_frames_every), "preset": "ultrafast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(frames):
                x = (image.shape[1] - width) * (index + number) // (frames + count)
                y = (image.shape[0] - height) * number // count
                part = np.ascontiguousarray(image[y : y + height, x : x + width, ::-1])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
            container.mux(stream.encode())
    return paths
