"""A second look at people: regions cut from the full-resolution picture, and what both looks say together.

The first network sees a whole picture at a few hundred pixels. A refiner sees one person, as large as its crop is, and
gives better keypoints of them. Where both agree the second pose is the better one; where they do not, the refiner has
most likely taken somebody else who stands in the same crop, and the first pose stays. Either way the score becomes the
probability, given both looks, that this is somebody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.model.file import ModelInfo, ScoreWeights
from edgepose.person import Person
from edgepose.pose.boxes import body_size, box_area
from edgepose.pose.edge import believed_keypoints, inside_picture
from edgepose.pose.resize import resize
from edgepose.pose.suppress import oks

AGREEMENT = 0.2
"""Similarity (OKS) above which two poses are taken to be those of the same person."""

_LEAST_SCORE = 1e-6  # keeps the logit finite

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Looks at crops, uint8 (M, S, S, 3) RGB: keypoints, float32 (M, 17, 3), x y in crop pixels and confidence."""


@dataclass(frozen=True, slots=True)
class Region:
    """A square of the source picture, and the crop that it becomes.

    Attributes:
        left, top: its corner in source pixels, whole ones; it may lie outside of the picture.
        side: of the square, whole source pixels.
        crop_side: of the crop, pixels.
    """

    left: int
    top: int
    side: int
    crop_side: int

    @classmethod
    def around(cls, box: NDArray[np.float32], margin: float, crop_side: int) -> "Region":
        """The square around the middle of a box (4,), x1 y1 x2 y2, whose side is `margin` times the longer side of the box."""
        x1, y1, x2, y2 = (float(value) for value in box)
        side = max(1, round(max(x2 - x1, y2 - y1) * margin))
        return cls(round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side, crop_side)

    def cut(self, image: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        """Resize the square of a picture, uint8 (H, W, 3), into `out`, uint8 (S, S, 3); black where there is no picture."""
        height, width = image.shape[:2]
        left, right = (min(max(edge, 0), width) for edge in (self.left, self.left + self.side))
        top, bottom = (min(max(edge, 0), height) for edge in (self.top, self.top + self.side))
        part = image[top:bottom, left:right]
        if not part.size:
            out[:] = 0
            return
        if part.shape[:2] != (self.side, self.side):
            square = np.zeros((self.side, self.side, 3), np.uint8)
            square[top - self.top : bottom - self.top, left - self.left : right - self.left] = part
            part = square
        resize(part, out)

    def to_crop(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) from source pixels to crop pixels."""
        return ((np.asarray(xy, np.float64) - (self.left, self.top)) * (self.crop_side / self.side)).astype(np.float32)

    def to_source(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) from crop pixels to source pixels."""
        return (np.asarray(xy, np.float64) * (self.side / self.crop_side) + (self.left, self.top)).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class RefineResult:
    """What came of looking again at somebody.

    Attributes:
        person: with the keypoints that are believed now, and the new score; the box and the track are those of before.
        agrees: whether both poses are alike, so that the keypoints are the second ones.
    """

    person: Person
    agrees: bool


def refine_people(image: NDArray[np.uint8], people: Sequence[Person], info: ModelInfo, run: Run) -> list[RefineResult]:
    """Look again at each of some people.

    Args:
        image: uint8 (H, W, 3), the whole picture at full resolution.
        people: in source pixels.
        info: of the refiner; ValueError where it is no refiner's.
        run: the refiner.
    """
    if info.crop_margin is None or info.score_weights is None:
        raise ValueError(f"{info.name} is no refiner")
    if not people:
        return []
    keypoints = refined_keypoints(image, people, info.crop_margin, info.input_size, run)
    return merge(people, keypoints, info.score_weights, image.shape[1], image.shape[0])


def refined_keypoints(image: NDArray[np.uint8], people: Sequence[Person], margin: float, crop_side: int, run: Run) -> NDArray[np.float32]:
    """What the refiner says of some people: (M, 17, 3), x y in source pixels and confidence.

    Args:
        image, people, run: as of `refine_people`.
        margin: side of a region over the longer side of the box.
        crop_side: of the refiner's crops, px.
    """
    regions = [Region.around(person.box, margin, crop_side) for person in people]
    crops = np.empty((len(regions), crop_side, crop_side, 3), np.uint8)
    for region, crop in zip(regions, crops, strict=True):
        region.cut(image, crop)
    keypoints: NDArray[np.float32] = run(crops).copy()
    for region, found in zip(regions, keypoints, strict=True):
        found[:, :2] = region.to_source(found[:, :2])
    return keypoints


def merge(people: Sequence[Person], keypoints: NDArray[np.float32], weights: ScoreWeights, width: int, height: int) -> list[RefineResult]:
    """Join first and second looks at the same people.

    Args:
        people: M people as they were found first.
        keypoints: (M, 17, 3), the second looks, x y in source pixels and confidence.
        weights: see `refined_score`.
        width, height: the picture, px; keypoints outside of it are moved to its edge, as those of the first look are.
    """
    believed, similar, confidences = evidence(people, keypoints, width, height)
    scores = refined_score(np.array([person.score for person in people]), similar, confidences, weights)
    return [
        RefineResult(Person(person.box, float(score), second if agrees else person.keypoints, person.track), bool(agrees))
        for person, second, score, agrees in zip(people, believed, scores, similar > AGREEMENT, strict=True)
    ]


def evidence(
    people: Sequence[Person], keypoints: NDArray[np.float32], width: int, height: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What second looks (M, 17, 3) are worth: keypoints as far as they are believed, OKS with the first (M,), mean confidence (M,)."""
    body = body_size(np.array([person.box for person in people]))
    inside = inside_picture(keypoints[..., :2], width, height)
    believed = believed_keypoints(keypoints[..., :2], inside, keypoints[..., 2], body)
    return believed, agreement(people, believed), believed[..., 2].mean(axis=1)


def agreement(people: Sequence[Person], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """OKS (M,) of the poses of M people with second ones (M, 17, 3) in the same pixels.

    A keypoint counts by the lesser of its two confidences: where one look was a guess, the other has nothing to agree with.
    """
    area = box_area(np.array([person.box for person in people]))
    first = np.array([person.keypoints for person in people])
    return oks(first, keypoints, area, np.minimum(first[..., 2], keypoints[..., 2]))


def refined_score(
    scores: NDArray[np.floating], similar: NDArray[np.floating], confidences: NDArray[np.floating], weights: ScoreWeights
) -> NDArray[np.float64]:
    """Probability (M,) that each find is somebody, after the second look.

    Args:
        scores: (M,) of the first look, 0 to 1.
        similar: (M,) OKS of both poses.
        confidences: (M,) mean confidence of the second keypoints.
        weights: bias, and what the logit of the first score, the similarity and the confidence count.
    """
    bias, first, similarity, confidence = weights
    clipped = np.clip(np.asarray(scores, np.float64), _LEAST_SCORE, 1 - _LEAST_SCORE)
    logit = bias + first * np.log(clipped / (1 - clipped)) + similarity * similar + confidence * confidences
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -50, 50))), np.float64)
