"""Labels that a better network than the one in training writes, each with the chance that it is right.

For people who have a box and no keypoints, for keypoints that nobody labeled, and for people nobody boxed in pictures
that do not claim to be complete. What comes out is a COCO-format folder beside the one that went in, with two more keys in an
annotation, which `edgepose_export.data.coco` reads: `score` and `keypoint_scores`. Training takes each as often as it is likely to be right
(`edgepose_export.data.coco.draw`): on average the loss is then weighted by the chance.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose.pose.suppress import oks
from edgepose_export.data.coco import CocoPose, Picture

Predict = Callable[[NDArray[np.uint8]], list[Person]]
Progress = Callable[[int, int], None]

LEAST_SCORE = 0.3
"""A find below this is no label: more than two in three are wrong or half right."""

LEAST_CONFIDENCE = 0.2
"""A keypoint below this is as good as not labeled: three in four of them lie elsewhere (measured with two MoveNets as teacher)."""

SAME_BOX = 0.5
"""Least IoU of a find and a box that are the same person."""

SAME_POSE = 0.75
"""Least OKS, over the labeled keypoints, of a find and a person whose other keypoints it may add."""


def write_pseudo_labels(folder: Path, output: Path, predict: Predict, progress: Progress | None = None) -> Mapping[str, int]:
    """Write a folder like `folder` with what `predict` adds to its labels; its pictures are linked, not copied.

    Args:
        folder: COCO format, see `edgepose_export.data.coco`.
        output: must not exist.
        predict: finds the people in a picture, uint8 (H, W, 3) RGB, with scores and confidences that are probabilities.
        progress: told after each picture.

    Returns:
        How many `people` and `keypoints` were added: `boxed people`, `new people`, `keypoints of labeled people`.

    Raises:
        ConfigError: the folder is not as it should be, or `output` exists.
    """
    pictures = CocoPose([folder], cache=False)
    if output.exists():
        raise ConfigError(f"{output} exists; expected a new folder, which pseudo-labels are written to")
    document = json.loads((folder / "annotations.json").read_bytes())
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
    os.symlink((folder / "images").resolve(), output / "images", target_is_directory=True)
    (output / "annotations.json").write_text(json.dumps(document), encoding="utf-8")
    return dict(added)


def add_labels(
    picture: Picture, annotations: list[dict[str, Any]], finds: list[Person], added: Counter[str] | None = None
) -> list[dict[str, Any]]:
    """Add what was found to the annotations of one picture, in place, and return those of new people.

    Each find is used once, the most certain first: for the labeled person it is, else for the box without keypoints that it
    fills, else, outside of all boxes and only where the picture does not claim that everybody is labeled, as somebody new.

    Args:
        picture: the labels as training sees them.
        annotations: of that picture, as they stand in the file.
        finds: the people whom the teacher finds.
        added: is told what came of it.
    """
    added = Counter() if added is None else added
    new: list[dict[str, Any]] = []
    taken: set[int] = set()
    for find in sorted(finds, key=lambda person: -person.score):
        if find.score < LEAST_SCORE:
            break
        number = _whose(find, annotations, taken)
        if number is None:
            if not picture.all_people_labeled and not any(_overlap(find.box, a) > 0.2 for a in annotations):
                new.append(_annotation(find, picture))
                added["new people"] += 1
            continue
        taken.add(number)
        annotation = annotations[number]
        if annotation.get("num_keypoints"):
            added["keypoints of labeled people"] += _complete(annotation, find)
        elif not annotation.get("iscrowd") and not annotation.get("maybe_crowd"):
            keypoints = _labels(find)
            if sum(v > 0 for v in keypoints[2::3]) >= 4:
                annotation.update(keypoints=keypoints, num_keypoints=_count(keypoints), **_scores(find))
                added["boxed people"] += 1
    return new


def _whose(find: Person, annotations: list[dict[str, Any]], taken: set[int]) -> int | None:
    overlaps = [0.0 if number in taken else _overlap(find.box, annotation) for number, annotation in enumerate(annotations)]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if best >= 0 and overlaps[best] >= SAME_BOX else None


def _overlap(box: NDArray[np.float32], annotation: dict[str, Any]) -> float:
    """IoU of a find and an annotation; of a crowd the share of the find that lies in it."""
    x, y, width, height = annotation["bbox"]
    inner = max(0.0, min(float(box[2]), x + width) - max(float(box[0]), x)) * max(
        0.0, min(float(box[3]), y + height) - max(float(box[1]), y)
    )
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    whole = area if annotation.get("iscrowd") else area + width * height - inner
    return float(inner / max(whole, 1e-9))


def _complete(annotation: dict[str, Any], find: Person) -> int:
    """Give a labeled person the keypoints that nobody labeled; none where the find is another pose."""
    labeled = np.array(annotation["keypoints"], np.float32).reshape(17, 3)
    known = labeled[:, 2] > 0
    area = annotation["bbox"][2] * annotation["bbox"][3]
    if oks(find.keypoints[None], labeled, area, known.astype(np.float32))[0] < SAME_POSE:
        return 0
    missing = ~known & (find.keypoints[:, 2] >= LEAST_CONFIDENCE)
    labeled[missing, :2] = find.keypoints[missing, :2]
    labeled[missing, 2] = 1
    scores = np.where(known, 1.0, np.where(missing, find.keypoints[:, 2], 0.0))
    annotation["keypoints"] = [round(float(value), 2) for value in labeled.reshape(-1)]
    annotation["num_keypoints"] = _count(annotation["keypoints"])
    annotation["keypoint_scores"] = [round(float(score), 3) for score in scores]
    return int(missing.sum())


def _annotation(find: Person, picture: Picture) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in find.box)
    keypoints = _labels(find)
    return {
        "image_id": picture.identity,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(left, 2), round(top, 2), round(max(right - left, 1), 2), round(max(bottom - top, 1), 2)],
        "keypoints": keypoints,
        "num_keypoints": _count(keypoints),
        **_scores(find),
    }


def _labels(find: Person) -> list[float]:
    keypoints = find.keypoints.astype(np.float64)
    keypoints[:, 2] = keypoints[:, 2] >= LEAST_CONFIDENCE  # hidden or seen, nobody knows: 1
    keypoints[keypoints[:, 2] == 0] = 0
    return [round(float(value), 2) for value in keypoints.reshape(-1)]


def _scores(find: Person) -> dict[str, Any]:
    return {"score": round(float(find.score), 3), "keypoint_scores": [round(float(confidence), 3) for confidence in find.keypoints[:, 2]]}


def _count(keypoints: list[float]) -> int:
    return sum(visible > 0 for visible in keypoints[2::3])
