"""Plots and a table of precision, recall and the error of each keypoint."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from edgepose.config import schema
from edgepose.person import KEYPOINT_NAMES, Person
from edgepose_export.data.coco import Picture
from edgepose_export.data.figures import save_figure
from edgepose_export.evaluation.curves import (
    LARGEST_RIGHT_ERROR,
    KeypointErrors,
    PrecisionRecall,
    keypoint_errors,
    precision_recall,
)
from edgepose_export.evaluation.keypoints import CONFIDENT

matplotlib.use("Agg")
from matplotlib import pyplot

_WORKING_SCORE = schema.PoseConfig().score_threshold
_SHOWN_OKS = (0.5, 0.75, 0.9)


def write_curves(folder: Path, predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> KeypointErrors:
    """Write `precision-recall.png` and `keypoints.png`, and return the errors of keypoints.

    Args:
        folder: where the plots go.
        predictions: people of each picture, in source pixels, with low scores too; see `edgepose_export.evaluation.coco.predictions_of`.
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
    save_figure(figure, path)


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
    left.axvline(LARGEST_RIGHT_ERROR, color="gray", linestyle="--", label="largest right error")
    left.set(xlabel="distance / (2 sigma sqrt(area))")
    left.set_yticks(rows, KEYPOINT_NAMES)
    left.invert_yaxis()
    for offset, values, name in (
        (-0.27, errors.overall, "of all labels"),
        (0.0, errors.right, "of people found"),
        (0.27, errors.sure_right, f"of these, confidence > {CONFIDENT}"),
    ):
        right.barh(rows + offset, values, height=0.27, label=name)
    right.set(xlabel="share right (OKS of the keypoint > 0.5)", xlim=(0, 1))
    for axis in (left, right):
        axis.grid(axis="x", alpha=0.3)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    save_figure(figure, path)
