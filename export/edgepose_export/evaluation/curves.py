"""Precision and recall at every score, and the error of each keypoint: what one figure of AP hides."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.annotations import evaluated_keypoints
from edgepose_export.evaluation.keypoints import CONFIDENT, matched_people

RIGHT_SIMILARITY = 0.5
"""Lowest OKS of a single keypoint that is right: an error of at most 1.18 of its normal errors."""

LARGEST_RIGHT_ERROR = float(np.sqrt(-2 * np.log(RIGHT_SIMILARITY)))
"""Largest error of a keypoint that is right, in the units of `KeypointErrors`."""

FOUND_OKS = 0.1
"""Lowest OKS of a person who is found: below it, a detection is of somebody else."""


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
    1 is OKS 0.61. Detections and people are matched as for PCK; a person whose detection has an OKS below 0.1 is not found.

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
    matched = [person for person in matched_people(_evaluated(predictions, pictures), predictions, pictures) if person.oks >= FOUND_OKS]
    similarity = np.array([person.similarities for person in matched]).reshape(-1, 17)
    is_known = np.array([person.labeled for person in matched], bool).reshape(-1, 17)
    is_sure = np.array([person.found[:, 2] > CONFIDENT for person in matched], bool).reshape(-1, 17)
    labeled = sum(((picture.keypoints[..., 2] > 0).sum(0) for picture in pictures), np.zeros(17, np.int64))
    error = np.sqrt(-2 * np.log(np.maximum(similarity, np.exp(-0.5 * _LARGEST_ERROR**2))))
    is_right = is_known & (similarity > RIGHT_SIMILARITY)
    found, certain = is_known.sum(0), (is_known & is_sure).sum(0)
    return KeypointErrors(
        labeled=labeled,
        found=found,
        mean=np.where(is_known, error, 0).sum(0) / np.maximum(found, 1),
        median=np.array([np.median(error[is_known[:, k], k]) if found[k] else np.nan for k in range(17)]),
        right=is_right.sum(0) / np.maximum(found, 1),
        overall=is_right.sum(0) / np.maximum(labeled, 1),
        sure=certain,
        sure_right=(is_right & is_sure).sum(0) / np.maximum(certain, 1),
    )


def _evaluated(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> COCOeval:
    if len(predictions) != len(pictures):
        raise ValueError(f"{len(predictions)} predictions for {len(pictures)} pictures")
    if not any(len(picture.boxes) for picture in pictures):
        raise ConfigError(f"none of the {len(pictures)} pictures has people with keypoints: there is nothing to measure against")
    return evaluated_keypoints(predictions, pictures)
