"""How good a pose network is, measured through the runtime's own letterbox, engine, decoder and suppression.

Average precision is COCO's: https://cocodataset.org/#keypoints-eval, computed by its reference implementation
(pycocotools). What is found in an ignore region (see `edgepose_export.data.coco`) counts neither for nor against.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.config import schema
from edgepose.engine.backend import open_backend
from edgepose.errors import ConfigError
from edgepose.model.file import read_model
from edgepose.person import Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.evaluation.annotations import PERSON, finds_as_coco, labels_as_coco
from edgepose_export.evaluation.refiner import PictureRefiner

Predict = Callable[[NDArray[np.uint8]], list[Person]]
"""Finds the people in a picture, uint8 (H, W, 3) RGB."""

Progress = Callable[[int, int], None]
"""Told after each picture: how many are done, of how many."""

SCORE_THRESHOLD = 0.02
"""Lowest score that is evaluated: average precision needs the weak finds too."""

WORKING_SCORE = schema.PoseConfig().score_threshold
"""Score from which on the daemon, as configured by default, believes in a person."""

_PCK_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one network on one set of pictures, 0 to 1; None where nobody of that size is in the set.

    Attributes:
        ap: average precision, mean over OKS thresholds 0.50, 0.55 … 0.95.
        ap50, ap75: average precision at OKS 0.50 and 0.75.
        ap_medium, ap_large: of people of 32² to 96² px² and above, in the pixels of the set's files.
        ar: average recall over the same thresholds, at most 20 finds a picture.
        pck: share of labeled keypoints that lie within 0.2 x the longer side of the person's box of their place; all
            keypoints of a person who was not found are wrong (PCK of Y. Yang, D. Ramanan, "Articulated Human Detection
            with Flexible Mixtures of Parts", TPAMI 2013, there with boxes that were given). Finds take the most
            similar person who is still free, strongest find first.
        right: share of the finds with score >= 0.3 that are somebody (OKS >= 0.5).
        found: share of the people who are found with score >= 0.3 (OKS >= 0.5).
        images: pictures.
        people: people with keypoints.
        precision: number format of the model: `float32` or `int8`; empty where it is not a model file.
        refiner: file name of the network that looked again; empty where none did.
        refined: people a picture who were looked at again, mean.
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
        """The keys that other programs rely on (`edgepose-export evaluate --json`); two more where a refiner looked again."""
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
        limit: only the first pictures; 0 is all.
        settings: where to run; its `path` is not looked at.
        pose: suppression; its score threshold is replaced by 0.02.
        refiner: ONNX file of a network that looks again at the people found.
        refine_people: most people a picture that are looked at again; 0 is everybody.
        progress: told after each picture.

    Raises:
        ConfigError: data or model are not as they should be.
        EngineError: the backend is unavailable.
    """
    pictures = CocoPose([data], cache=False)
    opened = None if refiner is None else PictureRefiner(refiner, refine_people, settings)
    with ModelPredictor(model, input_size=input_size, settings=settings, pose=pose, refiner=opened) as predictor:
        result = evaluate_callable(predictor, pictures, limit=limit, progress=progress, precision=predictor.precision)
    if opened is None:
        return result
    return replace(result, refiner=opened.name, refined=opened.refined / result.images)


class ModelPredictor:
    """A model file as a function from picture to people, through the runtime's rooms; a context manager, which closes `refiner` too.

    Attributes:
        precision: number format of the network.

    Raises:
        ModelError: the file is no pose network, or does not take `input_size`.
        EngineError: the backend is unavailable.
    """

    def __init__(
        self,
        model: Path,
        *,
        input_size: int = 0,
        settings: schema.ModelConfig | None = None,
        pose: schema.PoseConfig | None = None,
        refiner: PictureRefiner | None = None,
    ) -> None:
        chosen = settings or schema.ModelConfig()
        self._file = read_model(model)
        self._input_size = input_size or chosen.input_size
        self._pose = pose or schema.PoseConfig()
        self._refiner = refiner
        self._backend = open_backend(self._file, chosen)
        self.precision: str = self._file.info.precision

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """Find the people in a picture, uint8 (H, W, 3) RGB, down to a score of 0.02."""
        letterbox = Letterbox.for_model(self._file.info, image.shape[0], image.shape[1], self._input_size)
        candidates = self._backend.run(letterbox.apply(image)[None])
        people = decode(candidates, 0, letterbox, self._pose, score_threshold=SCORE_THRESHOLD)
        return people if self._refiner is None else self._refiner(image, people)

    def __enter__(self) -> "ModelPredictor":
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.close()
        if self._refiner is not None:
            self._refiner.close()


def evaluate_callable(
    predict: Predict, data: CocoPose, *, limit: int = 0, progress: Progress | None = None, precision: str = ""
) -> Evaluation:
    """Evaluate anything that finds people in a picture, such as a network in training.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB, with low scores too (0.02).
        data: labeled pictures.
        limit: only the first pictures; 0 is all.
        progress: told after each picture.
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
        ConfigError: nobody is labeled, so that there is nothing to measure.
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
class Judged:
    """All finds outside of ignore regions.

    Attributes:
        index: (F,), number of the find among all predictions, counted picture by picture.
        score: (F,).
        right: (F,), whether it is somebody (OKS >= 0.5).
    """

    index: NDArray[np.intp]
    score: NDArray[np.float64]
    right: NDArray[np.bool_]


def judge(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> Judged:
    """Tell which finds are somebody, by pycocotools' own matching."""
    return _judged(_evaluated(predictions, pictures))


def _evaluated(predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> COCOeval:
    with redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluator = COCOeval(labels_as_coco(pictures), finds_as_coco(predictions), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _working_point(evaluator: COCOeval, people: int) -> tuple[float, float]:
    """Precision and recall at the daemon's own score threshold and OKS 0.5."""
    judged = _judged(evaluator)
    believed = judged.score >= WORKING_SCORE
    right = int((judged.right & believed).sum())
    return right / max(int(believed.sum()), 1), right / people


def _judged(evaluator: COCOeval) -> Judged:
    index, scores, matched = [np.zeros(0, np.intp)], [np.zeros(0)], [np.zeros(0, bool)]
    for match in evaluator.evalImgs[: len(evaluator.params.imgIds)]:  # of all areas; None where the picture is empty
        if match is None:
            continue
        counted = ~match["dtIgnore"][0].astype(bool)
        index.append(np.array(match["dtIds"], np.intp)[counted] - 1)
        scores.append(np.array(match["dtScores"], np.float64)[counted])
        matched.append((match["dtMatches"][0] > 0)[counted])
    return Judged(np.concatenate(index), np.concatenate(scores), np.concatenate(matched))


def _pck(evaluator: COCOeval, predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> float:
    """Share of keypoints in place; see `Evaluation.pck`."""
    correct = labeled = 0
    for number, (people, picture) in enumerate(zip(predictions, pictures, strict=True), 1):
        labeled += int((picture.keypoints[..., 2] > 0).sum())
        similarity = np.array(evaluator.ious[number, PERSON])  # finds by falling score, people first among the labels
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
