"""Precision and recall at every score, and the error of each keypoint: what one figure of AP hides."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval
from rich.table import Table

from edgepose.config import schema
from edgepose.errors import ConfigError, OutputError
from edgepose.person import KEYPOINT_NAMES, OKS_SIGMAS, Person
from edgepose_export.callbacks import Predict
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.annotations import PERSON, detections_as_coco, labels_as_coco

matplotlib.use("Agg")
from matplotlib import pyplot

RIGHT_SIMILARITY = 0.5
"""Lowest OKS of a single keypoint that is right: an error of at most 1.18 of its normal errors."""

SURE_CONFIDENCE = 0.5
"""Confidence above which a keypoint is taken for certain."""

_MATCHED_OKS = 0.1  # below it, a detection is of somebody else
_WORKING_SCORE = schema.PoseConfig().score_threshold
_SHOWN_OKS = (0.5, 0.75, 0.9)


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
_LARGEST_RIGHT_ERROR = float(np.sqrt(-2 * np.log(RIGHT_SIMILARITY)))


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
    is_right = is_known & (error < _LARGEST_RIGHT_ERROR)
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


def keypoint_table(errors: KeypointErrors) -> Table:
    """Return the errors as a table for people."""
    table = Table(title="keypoints of the people found; right: OKS of the keypoint > 0.5")
    table.add_column("keypoint")
    for name in ("labeled", "found", "mean error", "median", "right", "right of all", f"right where confidence > {SURE_CONFIDENCE}"):
        table.add_column(name, justify="right")
    for k, name in enumerate(KEYPOINT_NAMES):
        table.add_row(
            name, str(errors.labeled[k]), str(errors.found[k]), f"{errors.mean[k]:.2f}", f"{errors.median[k]:.2f}",
            f"{errors.right[k]:.2f}", f"{errors.overall[k]:.2f}", f"{errors.sure_right[k]:.2f}",
        )  # fmt: skip
    sure = max(int(errors.sure.sum()), 1)
    table.add_section()
    table.add_row(
        "all", str(errors.labeled.sum()), str(errors.found.sum()), f"{_weighted(errors.mean, errors.found):.2f}", "",
        f"{_weighted(errors.right, errors.found):.2f}", f"{_weighted(errors.overall, errors.labeled):.2f}",
        f"{(errors.sure_right * errors.sure).sum() / sure:.2f}",
    )  # fmt: skip
    return table


def write_curves(folder: Path, predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> KeypointErrors:
    """Write `precision-recall.png` and `keypoints.png`, and return the errors of keypoints.

    Args:
        folder: where the plots go.
        predictions: people of each picture, in source pixels, with low scores too; see `Recorder`.
        pictures: their labels, in the same order.

    Raises:
        ConfigError: nobody is labeled.
        OutputError: a plot cannot be written.
    """
    errors = keypoint_errors(predictions, pictures)
    plot_precision_recall(folder / "precision-recall.png", precision_recall(predictions, pictures))
    plot_keypoint_errors(folder / "keypoints.png", errors)
    return errors


def plot_precision_recall(path: Path, curve: PrecisionRecall, title: str = "") -> None:
    """Plot precision over recall at three thresholds, and precision and recall over the score, into a PNG.

    Raises:
        OutputError: the PNG cannot be written.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title or f"AP {curve.ap.mean():.3f}, {curve.people} people")
    for oks in _SHOWN_OKS:
        row = int(np.abs(curve.thresholds - oks).argmin())
        reached = curve.precision[row] > 0
        left.plot(curve.recall[reached], curve.precision[row][reached], label=f"OKS {oks:.2f}: AP {curve.ap[row]:.3f}")
    mean = curve.precision.mean(0)
    left.plot(curve.recall[mean > 0], mean[mean > 0], "k--", label=f"mean of 0.50 to 0.95: AP {curve.ap.mean():.3f}")
    left.set(xlabel="recall: share of the people found", ylabel="precision: share of the finds that are right", xlim=(0, 1), ylim=(0, 1.02))
    left.legend(fontsize="small")
    correct, count = curve.right.cumsum(), np.arange(1, len(curve.right) + 1)
    right.plot(curve.scores, correct / count, label="precision")
    right.plot(curve.scores, correct / max(curve.people, 1), label="recall")
    right.plot(curve.scores, 2 * correct / (count + curve.people), label="F1")
    right.axvline(_WORKING_SCORE, color="gray", linestyle="--", label=f"default threshold {_WORKING_SCORE}")
    right.axvline(curve.best_score(), color="black", linestyle=":", label=f"highest F1 at {curve.best_score():.2f}")
    right.set(xlabel="score threshold (OKS 0.50)", xlim=(0, 1), ylim=(0, 1.02))
    right.legend(fontsize="small")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    _save(figure, path)


def plot_keypoint_errors(path: Path, errors: KeypointErrors, title: str = "") -> None:
    """Plot the error and the share of right places of each keypoint into a PNG.

    Raises:
        OutputError: the PNG cannot be written.
    """
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5), sharey=True, layout="constrained")
    figure.suptitle(title or f"keypoints of people found: {errors.found.sum()} of {errors.labeled.sum()} labels")
    rows = np.arange(17)
    left.barh(rows, errors.mean, color="tab:orange", label="mean (each at most 5)")
    left.barh(rows, errors.median, height=0.4, color="tab:red", label="median")
    left.axvline(_LARGEST_RIGHT_ERROR, color="gray", linestyle="--", label="largest right error")
    left.set(xlabel="distance / (2 sigma sqrt(area))")
    left.set_yticks(rows, KEYPOINT_NAMES)
    left.invert_yaxis()
    for offset, values, name in (
        (-0.27, errors.overall, "of all labels"),
        (0.0, errors.right, "of people found"),
        (0.27, errors.sure_right, f"of these, confidence > {SURE_CONFIDENCE}"),
    ):
        right.barh(rows + offset, values, height=0.27, label=name)
    right.set(xlabel="share right (OKS of the keypoint > 0.5)", xlim=(0, 1))
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    _save(figure, path)


def _save(figure: "pyplot.Figure", path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise OutputError(f"plot {path} cannot be written: {error.strerror or error}") from error
    finally:
        pyplot.close(figure)


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


def _weighted(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    return float((np.nan_to_num(values) * weights).sum() / max(int(weights.sum()), 1))
