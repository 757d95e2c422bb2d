"""The accuracy of a pose network, measured through the runtime's own letterbox, engine, decoder and suppression.

Average precision is COCO's: https://cocodataset.org/#keypoints-eval, computed by its reference implementation
(pycocotools). A detection in an ignore region (see `edgepose_export.data.coco`) counts neither for nor against.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.config import schema
from edgepose.errors import ConfigError
from edgepose.person import Person
from edgepose_export.callbacks import Predict, Progress
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.evaluation.annotations import evaluated_keypoints
from edgepose_export.evaluation.keypoints import confident_right, matched_people, share_in_place
from edgepose_export.evaluation.plots import write_curves
from edgepose_export.evaluation.predictor import open_predictor

WORKING_SCORE = schema.PoseConfig().score_threshold
"""Lowest score that the daemon reports by default."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one network on one set of pictures, 0 to 1; None where the set has nobody of that size.

    Attributes:
        ap: average precision, mean over OKS thresholds 0.50, 0.55 … 0.95.
        ap50, ap75: average precision at OKS 0.50 and 0.75.
        ap_medium, ap_large: average precision of people of 32² to 96² px² and above, in pixels of the files.
        ar: average recall over the same thresholds, at most 20 detections a picture.
        pck: share of labeled keypoints that lie within 0.2 x the longer side of the person's box of their place; all
            keypoints of a person who was not found are wrong (PCK of Y. Yang, D. Ramanan, "Articulated Human Detection
            with Flexible Mixtures of Parts", TPAMI 2013, there with given boxes). Detections take the most similar
            person who is still free, in the order of their scores (`edgepose_export.evaluation.keypoints.matched_people`).
        right: share of the detections with score >= 0.3 that match a person (OKS >= 0.5): precision.
        found: share of the people whom a detection with score >= 0.3 matches (OKS >= 0.5): recall.
        confident_right: share of the keypoints with confidence > 0.5 that are right: their own similarity to the label (one term of
            OKS) is above 0.5. Only labeled keypoints of people who were found count, matched as for `pck`.
        images: number of pictures.
        people: number of people with keypoints.
        precision: number format of the model: `float32` or `int8`; empty where it is not a model file.
        refiner: file name of the refiner; empty where none was used.
        refined: mean number of refined people a picture.
    """

    ap: float
    ap50: float
    ap75: float
    ap_medium: float | None
    ap_large: float | None
    ar: float
    pck: float
    right: float
    found: float
    confident_right: float | None
    images: int
    people: int
    precision: str = ""
    refiner: str = ""
    refined: float = 0.0

    def to_json(self) -> dict[str, float | int | str | None]:
        """Return the figures by the keys of `edgepose-export evaluate --json`, which are fixed; two more where a refiner was used."""
        figures: dict[str, float | int | str | None] = {
            "AP": self.ap,
            "AP50": self.ap50,
            "AP75": self.ap75,
            "APm": self.ap_medium,
            "APl": self.ap_large,
            "AR": self.ar,
            "PCK": self.pck,
            "images": self.images,
            "people": self.people,
            "precision": self.precision,
            "right": self.right,
            "found": self.found,
            "confident_right": self.confident_right,
        }
        return figures | {"refiner": self.refiner, "refined": self.refined} if self.refiner else figures


def evaluate(
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
    plots: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model file as the daemon would run it.

    Args:
        model: ONNX file.
        data: folder in COCO format, see `edgepose_export.data.coco`.
        groups: sets of the pictures to use (`Picture.group`); empty is all.
        input_size: long side of the network's input, px; 0 is the one in `settings`, or else the model's own.
        limit: number of pictures, from the first; 0 is all.
        settings: where to run; its `path` is ignored.
        pose: suppression; its score threshold and number of people are replaced.
        refiner: ONNX file of a refiner for the people found.
        refine_people: most people to refine in a picture; 0 refines everybody.
        score: lowest score of a find; None is 0.02, or 0.05 with a refiner.
        people: most finds of a picture; None is 50, or 30 with a refiner.
        tile_scale: as of `edgepose_export.evaluation.predictor.ModelPredictor`.
        plots: folder for `precision-recall.png` and `keypoints.png`; None draws nothing.
        progress: called after each picture.

    Raises:
        ConfigError: the data or the model file is refused.
        EngineError: the backend is unavailable.
    """
    pictures = CocoPose([data], cache=False, groups=groups)
    with open_predictor(
        model,
        input_size=input_size,
        settings=settings,
        pose=pose,
        refiner=refiner,
        refine_people=refine_people,
        score=score,
        people=people,
        tile_scale=tile_scale,
    ) as predictor:
        predictions = predictions_of(predictor, pictures, limit, progress)
    labels = list(islice(pictures, len(predictions)))
    result = evaluate_predictions(predictions, labels, precision=predictor.precision)
    if plots is not None:
        write_curves(plots, predictions, labels)
    refined = predictor.refiner
    return result if refined is None else replace(result, refiner=refined.name, refined=refined.refined / result.images)


def predictions_of(predict: Predict, data: CocoPose, limit: int, progress: Progress | None) -> list[list[Person]]:
    """Return the people found in each picture.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB, with low scores too (0.02).
        data: labeled pictures.
        limit: number of pictures, from the first; 0 is all.
        progress: called after each picture.
    """
    count = min(limit, len(data)) if limit else len(data)
    predictions = []
    for index in range(count):
        predictions.append(predict(data.image(index)))
        if progress is not None:
            progress(index + 1, count)
    return predictions


def evaluate_predictions(predictions: Sequence[Sequence[Person]], pictures: Iterable[Picture], *, precision: str = "") -> Evaluation:
    """Compare people found with people labeled.

    Args:
        predictions: people of each picture, in source pixels.
        pictures: their labels, in the same order.
        precision: number format, for the report.

    Raises:
        ConfigError: nobody is labeled, so there is nothing to measure.
    """
    labeled = list(pictures)
    if len(predictions) != len(labeled):
        raise ValueError(f"{len(predictions)} predictions for {len(labeled)} pictures")
    people = sum(int(picture.keypoints[..., 2].any(1).sum()) for picture in labeled)
    if not people:
        raise ConfigError(f"none of the {len(labeled)} pictures has people with keypoints: there is nothing to measure against")
    evaluator = evaluated_keypoints(predictions, labeled)
    ap, ap50, ap75, ap_medium, ap_large, ar = (float(value) for value in evaluator.stats[:6])
    right, found = _working_point(evaluator, people)
    matched = list(matched_people(evaluator, predictions, labeled))
    return Evaluation(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ap_medium=None if ap_medium < 0 else ap_medium,
        ap_large=None if ap_large < 0 else ap_large,
        ar=ar,
        pck=share_in_place(matched, sum(int((picture.keypoints[..., 2] > 0).sum()) for picture in labeled)),
        right=right,
        found=found,
        confident_right=confident_right(matched),
        images=len(labeled),
        people=people,
        precision=precision,
    )


@dataclass(frozen=True, slots=True, eq=False)
class MatchedDetections:
    """All detections outside of ignore regions.

    Attributes:
        index: (D,), number of the detection among all predictions, counted picture by picture.
        score: (D,).
        right: (D,), whether it matches a person (OKS >= 0.5).
    """

    index: NDArray[np.intp]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]


def match_detections(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> MatchedDetections:
    """Return which detections match a person, by pycocotools' own matching."""
    return _matched(evaluated_keypoints(predictions, pictures))


def _working_point(evaluator: COCOeval, people: int) -> tuple[float, float]:
    """Return precision and recall at the daemon's default score threshold and OKS 0.5."""
    matched = _matched(evaluator)
    reported = matched.score >= WORKING_SCORE
    right = int((matched.right & reported).sum())
    return right / max(int(reported.sum()), 1), right / people


def _matched(evaluator: COCOeval) -> MatchedDetections:
    index, scores, matched = [np.zeros(0, np.intp)], [np.zeros(0)], [np.zeros(0, bool)]
    for match in evaluator.evalImgs[: len(evaluator.params.imgIds)]:  # those of all areas; None for an empty picture
        if match is None:
            continue
        counted = ~match["dtIgnore"][0].astype(bool)
        index.append(np.array(match["dtIds"], np.intp)[counted] - 1)
        scores.append(np.array(match["dtScores"], np.float64)[counted])
        matched.append((match["dtMatches"][0] > 0)[counted])
    return MatchedDetections(np.concatenate(index), np.concatenate(scores), np.concatenate(matched))
