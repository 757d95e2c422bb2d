"""Small data sets in YOLO-pose format, and COCO's own layout, of one red picture each."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

DESCRIPTION: Mapping[str, Any] = {
    "path": ".",
    "train": "images/train",
    "val": "images/val",
    "kpt_shape": [17, 3],
    "flip_idx": [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15],
    "names": {0: "person"},
}


def yolo_line(box: Sequence[float] = (0.5, 0.5, 0.5, 0.5), *, dimensions: int = 3, visible: float = 2) -> str:
    """Return the line of a person whose keypoints lie on a diagonal, the last two of them unlabeled."""
    values: list[float] = [0, *box]
    for index in range(17):
        labeled = index < 15
        values += [0.3 + index / 50, 0.3 + index / 50] if labeled else [0, 0]
        values += [visible if labeled else 0] if dimensions == 3 else []
    return " ".join(f"{value:g}" for value in values)


def write_red(path: Path, width: int = 64, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :, 2] = 200  # red, in OpenCV's order
    cv2.imwrite(str(path), picture)
    return path


def write_yolo(folder: Path, lines: Sequence[str] = (yolo_line(),), **changes: Any) -> Path:
    """Write a set with `images/train/a.png` and its labels, `b.png` without a label file, and `images/val/c.png` with a label file."""
    write_red(folder / "images" / "train" / "a.png")
    write_red(folder / "images" / "train" / "b.png")
    write_red(folder / "images" / "val" / "c.png")
    for split, name, content in (("train", "a", "\n".join(lines) + "\n"), ("val", "c", yolo_line() + "\n")):
        labels = folder / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{name}.txt").write_text(content)
    values = {key: value for key, value in (dict(DESCRIPTION) | changes).items() if value is not None}
    (folder / "data.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


def write_coco(folder: Path, annotations: Sequence[Mapping[str, Any]], splits: Sequence[str] = ("train2017", "val2017")) -> Path:
    """Write COCO's own layout: `annotations/person_keypoints_SPLIT.json` and `SPLIT/a.png`, image 7, in each split."""
    (folder / "annotations").mkdir(parents=True)
    for split in splits:
        write_red(folder / split / "a.png")
        content = {
            "info": {"year": 2017},
            "licenses": [],
            "images": [{"id": 7, "license": 1, "file_name": "a.png", "width": 64, "height": 48, "coco_url": "", "date_captured": ""}],
            "annotations": list(annotations),
            "categories": [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 18, "name": "dog"}],
        }
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    return folder
