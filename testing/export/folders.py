"""Small COCO folders for tests, with pictures in which every keypoint is a dot."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

# 17 places well apart, in a picture of 300 x 220; in the middle of a pixel, where a magnified dot is brightest.
PLACES = np.array([(30.5 + 48 * (i % 6), 40.5 + 60 * (i // 6)) for i in range(17)])

LEFT, RIGHT, NOSE = (255, 0, 0), (0, 255, 0), (0, 0, 255)  # RGB


def color_of(keypoint: int) -> tuple[int, int, int]:
    return NOSE if keypoint == 0 else LEFT if keypoint % 2 else RIGHT


def dotted(width: int, height: int, scale: float = 1.0, sigma: float = 1.6) -> NDArray[np.uint8]:
    """Return a black picture with a Gaussian dot of the keypoint's color at each place; RGB."""
    image = np.zeros((height, width, 3))
    y, x = np.mgrid[0:height, 0:width] + 0.5
    for keypoint, place in enumerate(PLACES * scale):
        bell = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * sigma**2))
        image += bell[..., None] * color_of(keypoint)
    pixels: NDArray[np.uint8] = image.round().clip(0, 255).astype(np.uint8)
    return pixels


def write_dotted(
    folder: Path,
    sizes: Sequence[tuple[int, int]] = ((300, 220), (301, 227), (300, 300)),
    suffix: str = ".png",
    all_people_labeled: bool = True,
) -> Path:
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, (width, height) in enumerate(sizes, 1):
        scale = round(min(width / 300, height / 220))
        name = f"{number}{suffix}"
        cv2.imwrite(str(folder / "images" / name), dotted(width, height, scale)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        images.append({"id": number, "file_name": name, "width": width, "height": height, "all_people_labelled": all_people_labeled})
        keypoints = np.concatenate((PLACES * scale, np.full((17, 1), 2)), 1).ravel().tolist()
        box = [20 * scale, 30 * scale, 260 * scale, 150 * scale]
        annotations.append(
            {"id": number, "image_id": number, "bbox": box, "area": 0.6 * box[2] * box[3], "keypoints": keypoints, "num_keypoints": 17}
        )
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder
