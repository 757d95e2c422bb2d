"""Hard negatives for a refiner: finds of a pose network that show nobody, in pictures in which everybody is labeled.

A refiner that has only seen people is confident of anything. The result is a COCO-format folder whose annotations are boxes with
`hard_negative: true`; `edgepose_export.data.crops` makes crops of them whose keypoints are all absent.
"""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose.pose.boxes import box_area, intersection
from edgepose_export.callbacks import Predict, Progress
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.data.formats import find_source

_TOUCHES = 0.05
"""Share of the smaller of two boxes from which they touch: a find with a part of a person in it shows somebody."""


def write_hard_negatives(folder: Path, output: Path, predict: Predict, progress: Progress | None = None) -> int:
    """Write the finds that show nobody as a data set; its pictures are linked, not copied.

    Args:
        folder: data set in COCO layout; pictures in which not all people are labeled are left out.
        output: folder to write, which must not exist.
        predict: finds people in a picture, uint8 (H, W, 3) RGB.
        progress: called after each picture.

    Returns:
        The number of finds.

    Raises:
        ConfigError: the folder is refused, `output` exists, or no find shows nobody.
    """
    pictures = CocoPose([folder], cache=False)
    source = find_source(folder)
    if source.images is None:
        raise ConfigError(f"{folder} is in YOLO-pose format; expected COCO layout (annotations.json and images/)")
    if output.exists():
        raise ConfigError(f"{output} exists; expected a new folder for the hard negatives")
    found: list[tuple[int, NDArray[np.float32]]] = []
    for index, picture in enumerate(pictures):
        if picture.all_people_labeled:
            found += [(picture.identity, box) for box in boxes_of_nobody(picture, predict(pictures.image(index)))]
        if progress is not None:
            progress(index + 1, len(pictures))
    if not found:
        raise ConfigError(f"each find in {folder} shows a person, or touches one; expected pictures with things that are taken for people")
    document = json.loads(source.labels.read_bytes())
    shown = {identity for identity, _ in found}
    # The people of these pictures are not in the file, so nothing around the boxes may count as background.
    document["images"] = [{**image, "all_people_labelled": False} for image in document["images"] if image["id"] in shown]
    document["annotations"] = [
        {"id": number, "image_id": identity, "category_id": 1, "hard_negative": True, "bbox": _bbox(box)}
        for number, (identity, box) in enumerate(found, 1)
    ]
    output.mkdir(parents=True)
    os.symlink(source.images.resolve(), output / "images", target_is_directory=True)
    (output / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return len(found)


def boxes_of_nobody(picture: Picture, found: list[Person]) -> list[NDArray[np.float32]]:
    """Return the boxes of finds (4,), x1 y1 x2 y2, that touch no labeled person and no ignore region."""
    taken = np.concatenate((picture.boxes, picture.ignored))
    edge = np.array([picture.width, picture.height, picture.width, picture.height], np.float32)
    boxes = [np.clip(person.box, 0, edge) for person in found]
    shared = [intersection(box, taken) / np.minimum(box_area(box), box_area(taken)).clip(min=1) for box in boxes]  # of the smaller of two
    return [box for box, shares in zip(boxes, shared, strict=True) if box_area(box) >= 1 and not (shares > _TOUCHES).any()]


def _bbox(box: NDArray[np.float32]) -> list[float]:
    left, top, right, bottom = (float(value) for value in box)
    return [round(left, 2), round(top, 2), round(right - left, 2), round(bottom - top, 2)]
