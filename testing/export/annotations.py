"""Annotations in COCO's format, and a data set of one picture that they belong to."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CROWD: dict[str, Any] = {
    "id": 3,
    "image_id": 7,
    "bbox": [0, 0, 30, 20],
    "area": 300,
    "iscrowd": 1,
    "keypoints": [0] * 51,
    "num_keypoints": 0,
}
BYSTANDER: dict[str, Any] = {
    "id": 2,
    "image_id": 7,
    "bbox": [20, 10, 10, 10],
    "area": 40,
    "iscrowd": 0,
    "keypoints": [0] * 51,
    "num_keypoints": 0,
}


def person(**changes: Any) -> dict[str, Any]:
    """Return the annotation of a person, with some of its values changed."""
    keypoints = [value for i in range(17) for value in (10 + i, 5 + i, 2 if i < 15 else 0)]
    return {
        "id": 1,
        "image_id": 7,
        "bbox": [8, 4, 20, 24],
        "area": 250.5,
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": 15,
    } | changes


def write(
    folder: Path,
    annotations: Iterable[dict[str, Any]] = (),
    *,
    images: list[dict[str, Any]] | None = None,
    width: int = 64,
    height: int = 48,
) -> Path:
    """Write a folder in COCO layout with one red picture and these annotations; return it."""
    (folder / "images").mkdir(parents=True)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :, 2] = 200  # red, in OpenCV's order
    cv2.imwrite(str(folder / "images" / "a.png"), picture)
    images = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}] if images is None else images
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": list(annotations)}))
    return folder
