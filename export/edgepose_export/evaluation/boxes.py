"""The accuracy of the boxes of a pose network, for labels with or without keypoints.

Every box that is not a crowd (`iscrowd`) is a label, whether a human or a detector drew it; a crowd is an ignore region.
Average precision is COCO's (https://cocodataset.org/#detection-eval), by pycocotools. Recall and false finds are those at the
daemon's default score threshold.
"""

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.config import schema
from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose.pose.boxes import box_area, iou
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.evaluation.annotations import boxes_as_coco, labels_as_coco
from edgepose_export.evaluation.coco import WORKING_SCORE, predictions_of
from edgepose_export.evaluation.predictor import SCORE_THRESHOLD, open_predictor

MOST_PEOPLE = 100
"""Finds of a picture that count."""

RECALL_IOU = 0.4
"""Overlap from which a find is that of a labeled person."""

FALSE_IOU = 0.3
"""Overlap with every label below which a find is false. Between this and `RECALL_IOU`, a find is neither right nor false."""

SMALL_PX, LARGE_PX = 24, 48
"""Heights of labels that divide the groups of recall; both belong to the middle group."""


@dataclass(frozen=True, slots=True)
class BoxEvaluation:
    """Figures of the boxes of one network on one set of pictures; shares from 0 to 1, None where nobody is of that size.

    Attributes:
        ap: average precision, mean over IoU thresholds 0.50, 0.55 … 0.95, at most 100 finds a picture.
        ap50: average precision at IoU 0.50.
        recall_small, recall_medium, recall_large: share of the labels below 24 px, from 24 to 48 px and above 48 px of height in
            the file that a find with score >= 0.3 matches (IoU >= 0.4). In the order of scores, each find takes the label with the
            greatest overlap that is still free.
        false_per_image: mean number of finds with score >= 0.3 that overlap no label by IoU >= 0.3, outside of ignore regions
            (at least 0.3 of a find inside one). Two finds of the same person are not false here; average precision punishes them.
        images: number of pictures.
        boxes: number of labels.
        precision: number format of the model; empty where it is not a model file.
    """

    ap: float
    ap50: float
    recall_small: float | None
    recall_medium: float | None
    recall_large: float | None
    false_per_image: float
    images: int
    boxes: int
    precision: str = ""

    def to_json(self) -> dict[str, float | int | str | None]:
        """Return the figures by the keys of `edgepose-export evaluate --boxes --json`, which are fixed."""
        return {
            "box_AP": self.ap,
            "box_AP50": self.ap50,
            "recall_lt24": self.recall_small,
            "recall_24_48": self.recall_medium,
            "recall_gt48": self.recall_large,
            "false_per_image": self.false_per_image,
            "images": self.images,
            "boxes": self.boxes,
            "precision": self.precision,
        }


def evaluate_boxes(
    model: Path,
    data: Path,
    *,
    groups: Sequence[str] = (),
    input_size: int = 0,
    limit: int = 0,
    settings: schema.ModelConfig | None = None,
    pose: schema.PoseConfig | None = None,
    refiner: Path | None = None,
    refine_people: int = 0,
    score: float | None = None,
    people: int | None = None,
    tile_scale: float = 0.0,
    progress: Progress | None = None,
) -> BoxEvaluation:
    """Evaluate the boxes of a model file as the daemon would run it.

    Arguments and errors are those of `edgepose_export.evaluation.coco.evaluate`. By default, finds from score 0.02 count, at most
    100 a picture. A refiner changes scores, not boxes.
    """
    pictures = CocoPose([data], cache=False, groups=groups)
    with open_predictor(
        model,
        input_size=input_size,
        settings=settings,
        pose=pose,
        refiner=refiner,
        refine_people=refine_people,
        score=SCORE_THRESHOLD if score is None else score,
        people=people or MOST_PEOPLE,
        tile_scale=tile_scale,
    ) as predictor:
        predictions = predictions_of(predictor, pictures, limit, progress)
    return compare_boxes(predictions, islice(pictures, len(predictions)), precision=predictor.precision)


def compare_boxes(predictions: Sequence[Sequence[Person]], pictures: Iterable[Picture], *, precision: str = "") -> BoxEvaluation:
    """Compare the boxes of people found with those of people labeled.

    Args:
        predictions: people of each picture, in source pixels.
        pictures: their labels, in the same order.
        precision: number format, for the report.

    Raises:
        ConfigError: there is no box, so there is nothing to measure.
    """
    labeled = list(pictures)
    if len(predictions) != len(labeled):
        raise ValueError(f"{len(predictions)} predictions for {len(labeled)} pictures")
    count = sum(len(_labels(picture)) for picture in labeled)
    if not count:
        raise ConfigError(f"none of the {len(labeled)} pictures has the box of a person: there is nothing to measure against")
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(labels_as_coco(labeled), boxes_as_coco(predictions), "bbox")
        evaluator.params.maxDets = [1, 10, MOST_PEOPLE]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    small, medium, large, false = _working_point(predictions, labeled)
    return BoxEvaluation(
        ap=float(evaluator.stats[0]),
        ap50=float(evaluator.stats[1]),
        recall_small=small,
        recall_medium=medium,
        recall_large=large,
        false_per_image=false / len(labeled),
        images=len(labeled),
        boxes=count,
        precision=precision,
    )


def _labels(picture: Picture) -> NDArray[np.float32]:
    """Return the boxes (L, 4) that count as labels."""
    return np.concatenate((picture.boxes, picture.ignored[~picture.ignored_crowds]))


def _working_point(
    predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]
) -> tuple[float | None, float | None, float | None, int]:
    """Return the recall of small, medium and large labels, and the number of false finds."""
    heights, matched, false = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)], 0
    for people, picture in zip(predictions, pictures, strict=True):
        reported = sorted((person for person in people if person.score >= WORKING_SCORE), key=lambda person: -person.score)
        found = np.array([person.box for person in reported], np.float32).reshape(-1, 4)
        labels = _labels(picture)
        overlaps = iou(found[:, None], labels[None])  # (F, L)
        heights.append((labels[:, 3] - labels[:, 1]).astype(np.float32))
        matched.append(_taken(overlaps))
        if picture.all_people_labeled:
            stray = overlaps.max(1, initial=0) < FALSE_IOU
            false += int((stray & (_share_inside(found, picture.ignored[picture.ignored_crowds]) < FALSE_IOU)).sum())
    height, hit = np.concatenate(heights), np.concatenate(matched)
    groups = (height < SMALL_PX, (height >= SMALL_PX) & (height <= LARGE_PX), height > LARGE_PX)
    small, medium, large = (float(hit[group].mean()) if group.any() else None for group in groups)
    return small, medium, large, false


def _taken(overlaps: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which labels (L,) a find takes, given the overlaps (F, L) of the finds by falling score."""
    free = np.ones(overlaps.shape[1], np.bool_)
    for row in overlaps:
        candidates = np.where(free, row, 0)
        if candidates.max(initial=0) >= RECALL_IOU:
            free[candidates.argmax()] = False
    return ~free


def _share_inside(found: NDArray[np.float32], regions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest share (F,) of each find that lies inside one of the regions (R, 4)."""
    parts = np.concatenate(
        (np.maximum(found[:, None, :2], regions[None, :, :2]), np.minimum(found[:, None, 2:], regions[None, :, 2:])), axis=2
    )
    return np.asarray(box_area(parts).max(1, initial=0) / np.maximum(box_area(found), np.float32(1e-6)), np.float32)
