"""The keypoints of people found, compared one by one with those of people labeled."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from edgepose.person import OKS_SIGMAS, Person
from edgepose_export.data.coco import Picture
from edgepose_export.evaluation.annotations import PERSON

CONFIDENT = 0.5
"""Confidence above which a keypoint claims to be right."""

_RIGHT = 0.5
"""Similarity above which a keypoint is right."""

_PCK_SHARE = 0.2
"""Largest distance of a correct keypoint, as a share of the longer side of the person's box."""

_DOUBLE_VARIANCES = 2 * (2 * np.array(OKS_SIGMAS)) ** 2  # (17,): 2 k^2, k = 2 sigma


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPerson:
    """The keypoints of one person, found and labeled.

    Attributes:
        found: (17, 3), x y and confidence.
        label: (17, 3), x y v.
        area: px², of the labeled person's outline.
        longer_side: px, of the labeled box.
    """

    found: NDArray[np.float32]
    label: NDArray[np.float32]
    area: float
    longer_side: float

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Which keypoints are labeled (17,), visible or hidden."""
        return np.asarray(self.label[:, 2] > 0)

    @property
    def similarities(self) -> NDArray[np.float64]:
        """COCO's similarity of each keypoint (17,), exp(-d² / (2 area k²)); OKS is its mean over the labeled keypoints."""
        squared = ((self.found[:, :2].astype(np.float64) - self.label[:, :2]) ** 2).sum(1)
        return np.asarray(np.exp(-squared / (max(self.area, 1e-6) * _DOUBLE_VARIANCES)))

    @property
    def oks(self) -> float:
        """COCO's object keypoint similarity; at least one keypoint is labeled."""
        return float(self.similarities[self.labeled].mean())


def matched_people(evaluator: COCOeval, predictions: Sequence[Sequence[Person]], pictures: Sequence[Picture]) -> Iterator[MatchedPerson]:
    """Match detections and labeled people one to one.

    In the order of their scores, detections take the most similar person (OKS > 0) who is still free. At most 20 detections a
    picture are matched, as in COCO's AP.

    Args:
        evaluator: has compared `predictions` with `pictures`.
        predictions: people found in each picture.
        pictures: their labels.
    """
    for number, (people, picture) in enumerate(zip(predictions, pictures, strict=True), 1):
        similarity = np.array(evaluator.ious[number, PERSON])  # (detections by falling score, labels with people first)
        if not similarity.size or not len(picture.boxes):
            continue
        similarity = similarity[:, : len(picture.boxes)]
        by_score = np.argsort([-person.score for person in people], kind="mergesort")[: len(similarity)]
        free = np.array([bool(keypoints[:, 2].any()) for keypoints in picture.keypoints])
        for row, which in enumerate(by_score):
            person = int(np.where(free, similarity[row], -1).argmax())
            if not free[person] or similarity[row, person] <= 0:
                continue
            free[person] = False
            longer_side = float((picture.boxes[person, 2:] - picture.boxes[person, :2]).max())
            yield MatchedPerson(people[which].keypoints, picture.keypoints[person], float(picture.areas[person]), longer_side)


def share_in_place(matched: Iterable[MatchedPerson], labeled: int) -> float:
    """Return PCK: the share of `labeled` keypoints within 0.2 x the longer side of the person's box of their place."""
    correct = 0
    for person in matched:
        off = np.linalg.norm(person.found[:, :2] - person.label[:, :2], axis=1)
        correct += int((person.labeled & (off <= _PCK_SHARE * person.longer_side)).sum())
    return correct / labeled


def confident_right(matched: Iterable[MatchedPerson]) -> float | None:
    """Return the share of the confident keypoints that are right; None where no keypoint is confident.

    Only keypoints of matched people that are labeled count. A confidence above 0.5 is confident; a similarity above 0.5 is right.
    """
    right = confident = 0
    for person in matched:
        claimed = person.labeled & (person.found[:, 2] > CONFIDENT)
        confident += int(claimed.sum())
        right += int((person.similarities[claimed] > _RIGHT).sum())
    return right / confident if confident else None
