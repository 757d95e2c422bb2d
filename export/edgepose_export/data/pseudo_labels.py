"""Labels from a better network than the one in training, each with the probability that it is right.

They complete people with a box and no keypoints, unlabeled keypoints of labeled people, and people without a box in pictures that
do not claim to be complete. The result is a new COCO-format folder with two more keys in an annotation, which
`edgepose_export.data.coco` reads: `score` and `keypoint_scores`. Training keeps each label with its probability
(`edgepose_export.data.coco.sample_labels`), so that on average the probability weights the loss.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose.pose.suppress import oks
from edgepose_export.callbacks import Predict, Progress
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.data.formats import find_source
from edgepose_export.data.yolo_pose import read_yolo_pose

LEAST_SCORE = 0.3
"""Lowest score of a detection that becomes a label: below it, more than two in three are wrong or half right."""

LEAST_CONFIDENCE = 0.2
"""Lowest confidence of a labeled keypoint: below it, three in four are wrong (measured with two MoveNets as teachers)."""

SAME_BOX = 0.5
"""Lowest IoU of a detection and a box of the same person."""

SAME_POSE = 0.75
"""Lowest OKS, over the labeled keypoints, of a detection that may add the other keypoints of a person."""


def write_pseudo_labels(folder: Path, output: Path, predict: Predict, progress: Progress | None = None) -> Mapping[str, int]:
    """Write a copy of `folder` with the labels that `predict` adds; its pictures are linked, not copied.

    Args:
        folder: data set, see `edgepose_export.data.formats`.
        output: folder to write, which must not exist.
        predict: finds the people in a picture, uint8 (H, W, 3) RGB, with scores and confidences that are probabilities.
        progress: called after each picture.

    Returns:
        The numbers of added labels by kind: `boxed people`, `new people`, `keypoints of labeled people`.

    Raises:
        ConfigError: the folder is refused, or `output` exists.
    """
    pictures = CocoPose([folder], cache=False)
    if output.exists():
        raise ConfigError(f"{output} exists; expected a new folder for the pseudo-labels")
    source = find_source(folder)
    is_yolo = source.images is None  # its file names are absolute
    document = read_yolo_pose(source.labels, source.split) if is_yolo else json.loads(source.labels.read_bytes())
    of_picture: dict[int, list[dict[str, Any]]] = {picture.identity: [] for picture in pictures}
    for annotation in document["annotations"]:
        of_picture.get(annotation["image_id"], []).append(annotation)
    added: Counter[str] = Counter()
    for index, picture in enumerate(pictures):
        new = add_labels(picture, of_picture[picture.identity], predict(pictures.image(index)), added)
        document["annotations"].extend(new)
        if progress is not None:
            progress(index + 1, len(pictures))
    for number, annotation in enumerate(document["annotations"], 1):
        annotation["id"] = number
    output.mkdir(parents=True)
    if source.images is None:
        (output / "images").mkdir()
    else:
        os.symlink(source.images.resolve(), output / "images", target_is_directory=True)
    (output / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return dict(added)


def add_labels(
    picture: Picture, annotations: list[dict[str, Any]], detections: list[Person], added: Counter[str] | None = None
) -> list[dict[str, Any]]:
    """Add detections to the annotations of one picture, in place, and return annotations of new people.

    Each detection is used once, in the order of scores: for the labeled person that it matches, else for the box without keypoints
    that it matches, else as a new person, if it lies outside of all boxes and the picture does not claim to be complete.

    Args:
        picture: labels as training reads them.
        annotations: of that picture, as in the file.
        detections: people whom the teacher finds.
        added: counts the added labels by kind.
    """
    added = Counter() if added is None else added
    new: list[dict[str, Any]] = []
    taken: set[int] = set()
    for detection in sorted(detections, key=lambda person: -person.score):
        if detection.score < LEAST_SCORE:
            break
        number = _match(detection, annotations, taken)
        if number is None:
            if not picture.all_people_labeled and not any(_overlap(detection.box, a) > 0.2 for a in annotations):
                new.append(_annotation(detection, picture))
                added["new people"] += 1
            continue
        taken.add(number)
        annotation = annotations[number]
        if annotation.get("num_keypoints"):
            added["keypoints of labeled people"] += _complete(annotation, detection)
        elif not annotation.get("iscrowd") and not annotation.get("maybe_crowd"):
            keypoints = _labels(detection)
            if sum(v > 0 for v in keypoints[2::3]) >= 4:
                annotation.update(keypoints=keypoints, num_keypoints=_count(keypoints), **_scores(detection))
                added["boxed people"] += 1
    return new


def _match(detection: Person, annotations: list[dict[str, Any]], taken: set[int]) -> int | None:
    overlaps = [0.0 if number in taken else _overlap(detection.box, annotation) for number, annotation in enumerate(annotations)]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if best >= 0 and overlaps[best] >= SAME_BOX else None


def _overlap(box: NDArray[np.float32], annotation: dict[str, Any]) -> float:
    """Return the IoU of a detection and an annotation; for a crowd, the share of the detection that lies in it."""
    x, y, width, height = annotation["bbox"]
    inner = max(0.0, min(float(box[2]), x + width) - max(float(box[0]), x)) * max(
        0.0, min(float(box[3]), y + height) - max(float(box[1]), y)
    )
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    whole = area if annotation.get("iscrowd") else area + width * height - inner
    return float(inner / max(whole, 1e-9))


def _complete(annotation: dict[str, Any], detection: Person) -> int:
    """Add the unlabeled keypoints of a labeled person and return their number; 0 if the detection has another pose."""
    labeled = np.array(annotation["keypoints"], np.float32).reshape(17, 3)
    known = labeled[:, 2] > 0
    area = annotation["bbox"][2] * annotation["bbox"][3]
    if oks(detection.keypoints[None], labeled, area, known.astype(np.float32))[0] < SAME_POSE:
        return 0
    missing = ~known & (detection.keypoints[:, 2] >= LEAST_CONFIDENCE)
    labeled[missing, :2] = detection.keypoints[missing, :2]
    labeled[missing, 2] = 1
    scores = np.where(known, 1.0, np.where(missing, detection.keypoints[:, 2], 0.0))
    annotation["keypoints"] = [round(float(value), 2) for value in labeled.reshape(-1)]
    annotation["num_keypoints"] = _count(annotation["keypoints"])
    annotation["keypoint_scores"] = [round(float(score), 3) for score in scores]
    return int(missing.sum())


def _annotation(detection: Person, picture: Picture) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in detection.box)
    keypoints = _labels(detection)
    return {
        "image_id": picture.identity,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(left, 2), round(top, 2), round(max(right - left, 1), 2), round(max(bottom - top, 1), 2)],
        "keypoints": keypoints,
        "num_keypoints": _count(keypoints),
        **_scores(detection),
    }


def _labels(detection: Person) -> list[float]:
    keypoints = detection.keypoints.astype(np.float64)
    keypoints[:, 2] = keypoints[:, 2] >= LEAST_CONFIDENCE  # 1 (hidden), because visibility is unknown
    keypoints[keypoints[:, 2] == 0] = 0
    return [round(float(value), 2) for value in keypoints.reshape(-1)]


def _scores(detection: Person) -> dict[str, Any]:
    return {
        "score": round(float(detection.score), 3),
        "keypoint_scores": [round(float(confidence), 3) for confidence in detection.keypoints[:, 2]],
    }


def _count(keypoints: list[float]) -> int:
    return sum(visible > 0 for visible in keypoints[2::3])
