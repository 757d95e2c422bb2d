"""The accuracy of a column on labeled pictures: the figures of `evaluate`, curves, keypoints, sizes of people, calibration, pictures."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.person import KEYPOINT_NAMES, Person
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.annotations import evaluated_keypoints
from edgepose_export.evaluation.coco import WORKING_SCORE, evaluate_predictions
from edgepose_export.evaluation.curves import FOUND_OKS, PrecisionRecall, keypoint_errors, precision_recall
from edgepose_export.evaluation.keypoints import MatchedPerson, matched_people
from edgepose_export.evaluation.report import rounded
from edgepose_export.report.calibration import keypoint_calibration, score_calibration

SIZES_PX = (0, 32, 64, 128, 256)
"""Lower bounds of the groups of people, by the longer side of their box in the picture."""

SHOWN_OKS = (0.5, 0.75, 0.9)
_SCORES = np.linspace(0.0, 1.0, 101)


def accuracy_figures(
    predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture], *, precision: str, refiner: str = "", refined: int = 0
) -> dict[str, Any]:
    """Return all figures of accuracy, as JSON has them.

    Args:
        predictions: people of each picture, in source pixels, with low scores too.
        pictures: their labels, in the same order.
        precision: number format of the pose network.
        refiner: file name of the refiner; empty where none was used.
        refined: number of refined people.

    Raises:
        ConfigError: nobody is labeled.
    """
    result = evaluate_predictions(predictions, pictures, precision=precision)
    if refiner:
        result = replace(result, refiner=refiner, refined=refined / result.images)
    matched = list(matched_people(evaluated_keypoints(predictions, pictures), predictions, pictures))
    found = [person for person in matched if person.oks >= FOUND_OKS]
    return {
        "evaluation": rounded(result),
        "curves": _curves(precision_recall(predictions, pictures)),
        "keypoints": _keypoints(predictions, pictures),
        "sizes": _sizes(found, pictures),
        "calibration": {"score": score_calibration(predictions, pictures), "keypoint": keypoint_calibration(found)},
        "pictures": [quality(people, picture) for people, picture in zip(predictions, pictures, strict=True)],
    }


def _curves(curve: PrecisionRecall) -> dict[str, Any]:
    """Return precision over recall, and precision and recall of the finds above each score, at OKS 0.5."""
    by_oks = {f"{oks:.2f}": curve.precision[int(np.abs(curve.thresholds - oks).argmin())] for oks in SHOWN_OKS}
    right, above = curve.right.cumsum(), np.searchsorted(-curve.scores, -_SCORES, "right")
    reached = above > 0
    correct = np.where(reached, right[np.maximum(above, 1) - 1], 0) if len(right) else np.zeros(len(_SCORES))
    return {
        "recall": curve.recall.round(4).tolist(),
        "precision": {oks: values.round(5).tolist() for oks, values in by_oks.items()}
        | {"mean": curve.precision.mean(0).round(5).tolist()},
        "score": _SCORES.round(4).tolist(),
        "precision_at_score": [round(float(c / n), 5) if n else None for c, n in zip(correct, above, strict=True)],
        "recall_at_score": (correct / max(curve.people, 1)).round(5).tolist(),
        "best_score": round(curve.best_score(), 4),
    }


def _keypoints(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    errors = keypoint_errors(predictions, pictures)
    return [
        {
            "keypoint": name,
            "labeled": int(errors.labeled[k]),
            "found": int(errors.found[k]),
            "mean_error": round(float(errors.mean[k]), 5),
            "median_error": None if np.isnan(errors.median[k]) else round(float(errors.median[k]), 5),
            "right": round(float(errors.right[k]), 5),
            "right_of_all": round(float(errors.overall[k]), 5),
        }
        for k, name in enumerate(KEYPOINT_NAMES)
    ]


def _sizes(found: Sequence[MatchedPerson], pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """Return for each group of people by size how many are found, and how well their keypoints lie."""
    labeled = [
        float(side)
        for picture in pictures
        for side, keypoints in zip(_longer_sides(picture), picture.keypoints, strict=True)
        if keypoints[:, 2].any()
    ]
    people, groups = _group(labeled), _group([person.longer_side for person in found])
    rows = []
    for index, lowest in enumerate(SIZES_PX):
        group = [person for person, number in zip(found, groups, strict=True) if number == index]
        total, oks = int((people == index).sum()), np.array([person.oks for person in group])
        keypoints = np.concatenate([np.zeros(0), *(person.similarities[person.labeled] for person in group)])
        rows.append(
            {
                "from_px": lowest,
                "people": total,
                "found": round(float((oks >= 0.5).sum()) / total, 5) if total else None,
                "OKS": round(float(oks.mean()), 5) if len(oks) else None,
                "right": round(float((keypoints > 0.5).mean()), 5) if len(keypoints) else None,
            }
        )
    return rows


def _group(sides: Sequence[float]) -> NDArray[np.intp]:
    return np.searchsorted(np.array(SIZES_PX, float), np.array(sides, float), "right") - 1


def _longer_sides(picture: Picture) -> NDArray[np.float32]:
    return np.asarray((picture.boxes[:, 2:] - picture.boxes[:, :2]).max(1, initial=0), np.float32)


def quality(people: Sequence[Person], picture: Picture) -> dict[str, Any]:
    """Return how good the reported finds of one picture are.

    Returns:
        `file`; `people`, labeled ones; `reported`, finds above the default threshold that lie in no ignore region; `quality`, from 0 to
        1: twice the sum of OKS of the people found, divided by labeled people and reported finds; None where both are missing.
    """
    reported = [person for person in people if person.score >= WORKING_SCORE]
    count = int(picture.keypoints[..., 2].any(1).sum())
    evaluator = evaluated_keypoints([reported], [picture])
    similar = sum(person.oks for person in matched_people(evaluator, [reported], [picture]))
    match = evaluator.evalImgs[0]
    counted = 0 if match is None else int((~match["dtIgnore"][0].astype(bool)).sum())
    both = count + counted
    return {"file": picture.path.name, "people": count, "reported": counted, "quality": round(2 * similar / both, 5) if both else None}
