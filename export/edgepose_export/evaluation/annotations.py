"""Labels and detections in the form that pycocotools takes."""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgepose.person import Person
from edgepose_export.data.coco import Picture

PERSON = 1
"""COCO's category number of people."""


def labels_as_coco(pictures: Sequence[Picture]) -> COCO:
    """Return labels in pycocotools' form; picture i has the number i + 1, so that folders can be joined."""
    annotations: list[dict[str, Any]] = []

    def add(number: int, box: NDArray[np.float32], area: float, keypoints: NDArray[np.float32] | None, crowd: bool) -> None:
        x1, y1, x2, y2 = box.tolist()
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": PERSON,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": area,
                "iscrowd": int(crowd),
                "keypoints": [0.0] * 51 if keypoints is None else keypoints.ravel().tolist(),
                "num_keypoints": 0 if keypoints is None else int((keypoints[:, 2] > 0).sum()),
            }
        )

    for number, picture in enumerate(pictures, 1):
        for box, area, keypoints in zip(picture.boxes, picture.areas, picture.keypoints, strict=True):
            add(number, box, float(area), keypoints, False)
        for box, area, crowd in zip(picture.ignored, picture.ignored_areas, picture.ignored_crowds, strict=True):
            add(number, box, float(area), None, bool(crowd))
        if not picture.all_people_labeled:
            # Unlabeled people can be anywhere: the whole picture is a crowd, which matches what no labeled person matches.
            size = np.array((0, 0, picture.width, picture.height), np.float32)
            add(number, size, float(picture.width * picture.height), None, True)
    return _indexed(len(pictures), annotations)


def detections_as_coco(predictions: Sequence[Sequence[Person]]) -> COCO:
    """Return detections in pycocotools' form; as in its `loadRes`, box and area are those of the keypoints' bounds."""

    def bounds(person: Person) -> NDArray[np.float32]:
        return np.concatenate((person.keypoints[:, :2].min(0), person.keypoints[:, :2].max(0)))

    return _detections(predictions, bounds)


def boxes_as_coco(predictions: Sequence[Sequence[Person]]) -> COCO:
    """Return detections in pycocotools' form, with their own boxes."""
    return _detections(predictions, lambda person: person.box)


def evaluated_keypoints(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> COCOeval:
    """Return pycocotools' evaluator of keypoints after its evaluation, accumulation and summary."""
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(labels_as_coco(pictures), detections_as_coco(predictions), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _detections(predictions: Sequence[Sequence[Person]], box: Callable[[Person], NDArray[np.float32]]) -> COCO:
    annotations: list[dict[str, Any]] = []
    for number, people in enumerate(predictions, 1):
        for person in people:
            x1, y1, x2, y2 = box(person).astype(float).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": PERSON,
                    "score": float(person.score),
                    "keypoints": person.keypoints.astype(float).ravel().tolist(),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                }
            )
    return _indexed(len(predictions), annotations)


def _indexed(pictures: int, annotations: list[dict[str, Any]]) -> COCO:
    coco = COCO()
    images = [{"id": number} for number in range(1, pictures + 1)]
    coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": PERSON, "name": "person"}]}
    coco.createIndex()
    return coco
