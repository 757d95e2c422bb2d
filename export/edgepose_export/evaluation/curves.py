"""Precision and recall at every score, and the error of each keypoint: what one figure of AP hides."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.errors import ConfigError
from edgepose.person import OKS_SIGMAS, Person
from edgepose_export.callbacks import Predict
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.annotations import PERSON, detections_as_coco, labels_as_coco

RIGHT_SIMILARITY = 0.5
"""Lowest OKS of a single keypoint that is right: an error of at most 1.18 of its normal errors."""

LARGEST_RIGHT_ERROR = float(np.sqrt(-2 * np.log(RIGHT_SIMILARITY)))
"""Largest error of a keypoint that is right, in the units of `KeypointErrors`."""

SURE_CONFIDENCE = 0.5
"""Confidence above which a keypoint is taken for certain."""

_MATCHED_OKS = 0.1  # below it, a detection is of somebody else


@dataclass(frozen=True, slots=True, eq=False)
class PrecisionRecall:
    """Precision and recall of a network on a set of pictures.

    Attributes:
        thresholds: (10,), OKS from which a detection is right: 0.50, 0.55 … 0.95.
        recall: (101,), 0 to 1.
        precision: (10, 101), highest precision at each recall or above; 0 where the recall is not reached (COCO's definition).
        scores: (D,), falling scores of all detections outside of ignore regions.
        right: (D,), which of them match a person at OKS 0.5.
        people: number of people with keypoints.
    """

    thresholds: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    people: int

    @property
    def ap(self) -> NDArray[np.float64]:
        """Average precision at each threshold, (10,); their mean is AP."""
        return np.asarray(self.precision.mean(1), np.float64)

    def best_score(self) -> float:
        """Return the score threshold with the highest F1 at OKS 0.5; 0 where nothing was found."""
        if not self.right.any():
            return 0.0
        correct = self.right.cumsum()
        f1 = 2 * correct / (np.arange(1, len(correct) + 1) + self.people)
        return float(self.scores[int(f1.argmax())])


@dataclass(frozen=True, slots=True, eq=False)
class KeypointErrors:
    """Errors of the 17 keypoints of the people found.

    An error is a distance divided by 2 sigma sqrt(area): by what people's own labels of that keypoint differ, at the person's size.
    1 is OKS 0.61. A person is found by the most similar detection that is still free, from OKS 0.1 on, in the order of scores.

    Attributes:
        labeled: int (17,), labels of each keypoint.
        found: int (17,), those of people found.
        mean: (17,), mean error of those of people found, each at most 5, so that one limb mistaken for another does not hide the rest.
        median: (17,), their median error.
        right: (17,), share of those of people found with an OKS above 0.5.
        overall: (17,), share of all labels with an OKS above 0.5; those of people who are not found are wrong.
        sure: int (17,), those of people found with a confidence above 0.5.
        sure_right: (17,), share of these with an OKS above 0.5.
    """

    labeled: NDArray[np.int64]
    found: NDArray[np.int64]
    mean: NDArray[np.float64]
    median: NDArray[np.float64]
    right: NDArray[np.float64]
    overall: NDArray[np.float64]
    sure: NDArray[np.int64]
    sure_right: NDArray[np.float64]


class Recorder:
    """A function from picture to people that keeps what it finds, for curves of the same pass that measures AP.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB.

    Attributes:
        predictions: people of each picture so far, in order.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self.predictions: list[list[Person]] = []

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """Find the people in a picture."""
        people = self._predict(image)
        self.predictions.append(people)
        return people


_LARGEST_ERROR = 5.0


def precision_recall(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> PrecisionRecall:
    """Measure precision and recall by pycocotools' own matching.

    Args:
        predictions: people of each picture, in source pixels, with low scores too.
        pictures: their labels, in the same order.

    Raises:
        ConfigError: nobody is labeled.
    """
    evaluator = _evaluated(predictions, pictures)
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for match in evaluator.evalImgs[: len(evaluator.params.imgIds)]:  # those of all areas; None for an empty picture
        if match is not None:
            counted = ~match["dtIgnore"][0].astype(bool)
            scores.append(np.array(match["dtScores"], float)[counted])
            right.append((match["dtMatches"][0] > 0)[counted])
    order = np.argsort(-np.concatenate(scores), kind="mergesort")
    return PrecisionRecall(
        thresholds=np.array(evaluator.params.iouThrs, np.float64),
        recall=np.array(evaluator.params.recThrs, np.float64),
        precision=np.maximum(np.array(evaluator.eval["precision"][:, :, 0, 0, 0], np.float64), 0),  # (T, R), all areas
        scores=np.concatenate(scores)[order],
        right=np.concatenate(right)[order],
        people=sum(len(picture.boxes) for picture in pictures),
    )


def keypoint_errors(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> KeypointErrors:
    """Measure the error of each keypoint.

    Args:
        predictions: people of each picture, in source pixels.
        pictures: their labels, in the same order.

    Raises:
        ConfigError: nobody is labeled.
    """
    evaluator = _evaluated(predictions, pictures)
    labeled = np.zeros(17, np.int64)
    errors, known, sure = [np.zeros((0, 17))], [np.zeros((0, 17), bool)], [np.zeros((0, 17), bool)]
    for number, (people, picture) in enumerate(zip(predictions, pictures, strict=True), 1):
        labeled += (picture.keypoints[..., 2] > 0).sum(0)
        similarity = np.array(evaluator.ious[number, PERSON])  # (detections by falling score, labels with people first)
        for which, person in _pairs(similarity, people, np.asarray(picture.keypoints[..., 2].any(1))):
            keypoints = people[which].keypoints
            off = np.linalg.norm(keypoints[:, :2] - picture.keypoints[person, :, :2], axis=1)
            errors.append((off / (2 * np.array(OKS_SIGMAS) * np.sqrt(max(float(picture.areas[person]), 1e-6))))[None])
            known.append((picture.keypoints[person, :, 2] > 0)[None])
            sure.append((keypoints[:, 2] > SURE_CONFIDENCE)[None])
    error, is_known, is_sure = np.concatenate(errors), np.concatenate(known), np.concatenate(sure)
    is_right = is_known & (error < LARGEST_RIGHT_ERROR)
    found, certain = is_known.sum(0), (is_known & is_sure).sum(0)
    return KeypointErrors(
        labeled=labeled,
        found=found,
        mean=np.where(is_known, np.minimum(error, _LARGEST_ERROR), 0).sum(0) / np.maximum(found, 1),
        median=np.array([np.median(error[is_known[:, k], k]) if found[k] else np.nan for k in range(17)]),
        right=is_right.sum(0) / np.maximum(found, 1),
        overall=is_right.sum(0) / np.maximum(labeled, 1),
        sure=certain,
        sure_right=(is_right & is_sure).sum(0) / np.maximum(certain, 1),
    )


def _pairs(similarity: NDArray[np.float64], people: Sequence[Person], labeled: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return pairs of detection and person; each person with a labeled keypoint at most once."""
    if not similarity.size or not labeled.any():
        return []
    similarity = similarity[:, : len(labeled)]
    by_score = np.argsort([-person.score for person in people], kind="mergesort")[: len(similarity)]
    free = labeled.copy()
    pairs = []
    for row, which in enumerate(by_score.tolist()):
        person = int(np.where(free, similarity[row], -1).argmax())
        if free[person] and similarity[row, person] >= _MATCHED_OKS:
            free[person] = False
            pairs.append((which, person))
    return pairs


def _evaluated(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> COCOeval:
    if len(predictions) != len(pictures):
        raise ValueError(f"{len(predictions)} predictions for {len(pictures)} pictures")
    if not any(len(picture.boxes) for picture in pictures):
        raise ConfigError(f"none of the {len(pictures)} pictures has people with keypoints: there is nothing to measure against")
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(labels_as_coco(pictures), detections_as_coco(predictions), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator
