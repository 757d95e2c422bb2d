"""Generator of the clip that `edgepose demo` falls back to: a camera glides over a photograph that is in the public domain.

    pip install scikit-image && python tools/make_demo_clip.py clip.mp4
    ffmpeg -i clip.mp4 -c:v libx264 -crf 30 -preset slow -pix_fmt yuv420p -movflags +faststart edgepose/assets/demo.mp4

The photograph is NASA's portrait of the astronaut Eileen Collins, as scikit-image carries it (`skimage.data.astronaut`).
"""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from edgepose.output.video import VideoWriter
from edgepose.pixels import unguarded

WIDTH, HEIGHT, FRAMES_PER_S, SECONDS = 640, 480, 15, 12


def frame(photograph: np.ndarray, time_s: float) -> np.ndarray:
    """Draw the frame at `time_s`: the photograph and, smaller, its mirror image, moving apart and together. uint8 (H, W, 3) RGB."""
    canvas = np.full((HEIGHT, WIDTH, 3), (70, 78, 88), np.uint8)
    phase = 2 * math.pi * time_s / SECONDS
    for image, side, middle_x, middle_y in (
        (photograph[:, ::-1], 250 + 30 * math.cos(phase), 470 + 40 * math.cos(phase), 250 + 12 * math.sin(2 * phase)),
        (photograph, 360 + 60 * math.sin(phase), 205 - 45 * math.cos(phase), 255 + 10 * math.sin(phase)),
    ):
        scale = side / photograph.shape[0]
        matrix = np.array([[scale, 0, middle_x - side / 2], [0, scale, middle_y - side / 2]])
        picture = np.ascontiguousarray(image)
        cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT), dst=canvas, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_TRANSPARENT)
    return canvas


def main() -> None:
    """Write the clip."""
    photograph = data.astronaut()
    writer = VideoWriter(Path(sys.argv[1]))
    for number in range(FRAMES_PER_S * SECONDS):
        writer.write(unguarded(frame(photograph, number / FRAMES_PER_S)), number * 1_000_000_000 // FRAMES_PER_S)
    writer.close()


if __name__ == "__main__":
    main()
