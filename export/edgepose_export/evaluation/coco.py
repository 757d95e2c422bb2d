"""The accuracy of a pose network, measured through the runtime's own letterbox, engine, decoder and suppression.

Average precision is COCO's: https://cocodataset.org/#keypoints-eval, computed by its reference implementation
(pycocotools). A detection in an ignore region (see `edgepose_export.data.coco`) counts neither for nor against.
"""

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
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
from edgepose_export.evaluation.annotations import PERSON, detections_as_coco, labels_as_coco
from edgepose_export.evaluation.predictor import ModelPredictor
from edgepose_export.evaluation.refiner import PictureRefiner

WORKING_SCORE = schema.PoseConfig().score_threshold
"""Lowest score that the daemon reports by default."""

_PCK_SHARE = 0.2
"""Largest distance of a correct keypoint, as a share of the longer side of the person's box."""


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
            person who is still free, in the order of their scores.
        right: share of the detections with score >= 0.3 that match a person (OKS >= 0.5): precision.
        found: share of the people whom a detection with score >= 0.3 matches (OKS >= 0.5): recall.
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
        }
        return figures | {"refiner": self.refiner, "refined": self.refined} if self.refiner else figures


def evaluate(
    model: Path,
    data: Path,
    *,
    input_size: int = 0,
    limit: int = 0,
    settings: schema.ModelConfig | None = None,
    pose: schema.PoseConfig | None = None,
    refiner: Path | None = None,
    refine_people: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a model file as the daemon would run it.

    Args:
        model: ONNX file.
        data: folder in COCO format, see `edgepose_export.data.coco`.
        input_size: long side of the network's input, px; 0 is the one in `settings`, or else the model's own.
        limit: number of pictures, from the first; 0 is all.
        settings: where to run; its `path` is ignored.
        pose: suppression; its score threshold is replaced by 0.02.
        refiner: ONNX file of a refiner for the people found.
        refine_people: most people to refine in a picture; 0 refines everybody.
        progress: called after each picture.

    Raises:
        ConfigError: the data or the model file is refused.
        EngineError: the backend is unavailable.
    """
    pictures = CocoPose([data], cache=False)
    opened = None if refiner is None else PictureRefiner(refiner, refine_people, settings)
    with ModelPredictor(model, input_size=input_size, settings=settings, pose=pose, refiner=opened) as predictor:
        result = evaluate_callable(predictor, pictures, limit=limit, progress=progress, precision=predictor.precision)
    if opened is None:
        return result
    return replace(result, refiner=opened.name, refined=opened.refined / result.images)


def evaluate_callable(
    predict: Predict, data: CocoPose, *, limit: int = 0, progress: Progress | None = None, precision: str = ""
) -> Evaluation:
    """Evaluate anything that finds people in a picture, such as a network in training.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB, with low scores too (0.02).
        data: labeled pictures.
        limit: number of pictures, from the first; 0 is all.
        progress: called after each picture.
        precision: number format, for the report.
    """
    count = min(limit, len(data)) if limit else len(data)
    predictions = []
    for index in range(count):
        predictions.append(predict(data.image(index)))
        if progress is not None:
            progress(index + 1, count)
    return evaluate_predictions(predictions, islice(data, count), precision=precision)


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
    people = sum(len(picture.boxes) for picture in labeled)
    if not people:
        raise ConfigError(f"none of the {len(labeled)} pictures has people with keypoints: there is nothing to measure against")
    evaluator = _evaluated(predictions, labeled)
    ap, ap50, ap75, ap_medium, ap_large, ar = (float(value) for value in evaluator.stats[:6])
    right, found = _working_point(evaluator, people)
    return Evaluation(
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        ap_medium=None if ap_medium < 0 else ap_medium,
        ap_large=None if ap_large < 0 else ap_large,
        ar=ar,
        pck=_pck(evaluator, predictions, labeled),
        right=right,
        found=found,
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
    return _matched(_evaluated(predictions, pictures))


def _evaluated(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> COCOeval:
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(labels_as_coco(pictures), detections_as_coco(predictions), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


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


def _pck(evaluator: COCOeval, predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> float:
    """Return the share of keypoints in place; see `Evaluation.pck`."""
    correct = labeled = 0
    for number, (people, picture) in enumerate(zip(predictions, pictures, strict=True), 1):
        labeled += int((picture.keypoints[..., 2] > 0).sum())
        similarity = np.array(evaluator.ious[number, PERSON])  # (detections by falling score, labels with people first)
        if not similarity.size or not len(picture.boxes):
            continue
        similarity = similarity[:, : len(picture.boxes)]
        by_score = np.argsort([-person.score for person in people], kind="mergesort")[: len(similarity)]
        free = np.ones(len(picture.boxes), bool)
        for row, which in enumerate(by_score):
            person = int(np.where(free, similarity[row], -1).argmax())
            if not free[person] or similarity[row, person] <= 0:
                continue
            free[person] = False
            visible = picture.keypoints[person, :, 2] > 0
            off = np.linalg.norm(people[which].keypoints[:, :2] - picture.keypoints[person, :, :2], axis=1)
            size = (picture.boxes[person, 2:] - picture.boxes[person, :2]).max()
            correct += int((visible & (off <= _PCK_SHARE * size)).sum())
    return correct / labeled
