"""The golden check: does an engine find the same people as ONNX Runtime does with the same file, on the shipped photograph?

An engine that was built wrongly (a scale misread, a layer in too little precision, a faulty kernel) loads and runs like a good one. It
differs in what it finds, so it is compared before it is used.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engine.networks import PoseNetwork, RefinerNetwork
from edgepose.errors import EngineError, ModelError
from edgepose.model.file import ModelInfo
from edgepose.person import OKS_SIGMAS, Candidates

_PHOTOGRAPH = Path(__file__).parents[1] / "assets" / "golden.jpg"
_PEOPLE = ((65, 103, 275, 396), (412, 136, 585, 376))  # their boxes in it, in pixels
_GRAY = 114

LEAST_OKS = 0.9
MOST_SCORE_DIFFERENCE = 0.05
_COMPARED_SCORE = 0.4
"""People above are compared; about those below, two good networks may disagree."""

_LIKELY_PLACE = 0.2  # confidence of a keypoint that is compared
_BODY_SHARE = 0.53  # of the box, as in `edgepose.pose.suppress`, which the engine must not import


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What the comparison found.

    Attributes:
        people: compared.
        least_oks: the lowest similarity of a person's pose, 1 where nobody was compared.
        most_difference: the largest difference of a score.
    """

    people: int
    least_oks: float
    most_difference: float

    @property
    def words(self) -> str:
        """The figures in words."""
        return f"{self.people} people, OKS {self.least_oks:.3f} or more, scores within {self.most_difference:.3f}"


def golden_image(info: ModelInfo, input_size: int) -> NDArray[np.uint8]:
    """Return the photograph as a pose network gets it, uint8 (1, H, W, 3) RGB."""
    photograph = _photograph()
    if info.input_height is not None and info.input_width is not None:
        height, width = info.input_height, info.input_width
    else:
        width = info.long_side(input_size)
        height = -(-width * photograph.shape[0] // photograph.shape[1] // info.stride) * info.stride
    scale = min(width / photograph.shape[1], height / photograph.shape[0])
    size = max(1, round(photograph.shape[1] * scale)), max(1, round(photograph.shape[0] * scale))
    image = np.full((1, height, width, 3), _GRAY, np.uint8)
    image[0, : size[1], : size[0]] = cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)[:height, :width]
    return image


def golden_crops(info: ModelInfo) -> NDArray[np.uint8]:
    """Return the people of the photograph as a refiner gets them, uint8 (2, H, W, 3) RGB."""
    height, width = info.crop_shape
    photograph = _photograph()
    crops = np.empty((len(_PEOPLE), height, width, 3), np.uint8)
    for crop, (x1, y1, x2, y2) in zip(crops, _PEOPLE, strict=True):
        scale = (info.crop_margin or 1.0) * max((x2 - x1) / width, (y2 - y1) / height)
        center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
        matrix = np.array([[1 / scale, 0, width / 2 - center_x / scale], [0, 1 / scale, height / 2 - center_y / scale]])
        crop[...] = cv2.warpAffine(photograph, matrix, (width, height), borderValue=(_GRAY,) * 3)
    return crops


def check_pose_network(network: PoseNetwork, reference: PoseNetwork, input_size: int) -> GoldenResult:
    """Compare a pose network with the reference; ModelError where they differ, EngineError where one of them fails."""
    image = golden_image(reference.info, input_size)
    return compare_candidates(network.run(image), reference.run(image), network.name)


def check_refiner(network: RefinerNetwork, reference: RefinerNetwork) -> GoldenResult:
    """Compare a refiner with the reference; ModelError where they differ, EngineError where one of them fails."""
    crops = golden_crops(reference.info)
    found, expected = network.run(crops), reference.run(crops)
    area = np.full(len(crops), crops.shape[1] * crops.shape[2] / (reference.info.crop_margin or 1.0) ** 2)
    similarity = _oks(found, expected, area)
    difference = np.abs(found[..., 2].mean(axis=1) - expected[..., 2].mean(axis=1))
    result = GoldenResult(len(crops), float(similarity.min()), float(difference.max()))
    _refuse_different(result, network.name)
    return result


def compare_candidates(found: Candidates, expected: Candidates, name: str) -> GoldenResult:
    """Compare the candidates of one image: everybody whom one of both finds must be found by the other; ModelError where not."""
    pairs = [_matched(one, other) for one, other in ((expected, found), (found, expected))]
    similarities, differences = (np.concatenate(values) for values in zip(*pairs, strict=True))
    people = len(pairs[0][0])
    if not similarities.size:  # a network that sees nobody here: its best scores must agree
        best = [float(part.scores.max(initial=0.0)) for part in (found, expected)]
        result = GoldenResult(0, 1.0, abs(best[0] - best[1]))
    else:
        result = GoldenResult(people, float(similarities.min()), float(differences.max()))
    _refuse_different(result, name)
    return result


def _matched(one: Candidates, other: Candidates) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each person of one set the OKS with the most similar of the other, and the difference of their scores."""
    # A person just above the threshold here may be just below it there, so the whole other set is compared.
    rows = np.flatnonzero(one.scores[0] >= _COMPARED_SCORE)
    size = one.boxes[0][rows, 2:] - one.boxes[0][rows, :2]
    area = np.maximum(size.prod(axis=1), 1.0)
    similarity = _oks(one.keypoints[0][rows][:, None], other.keypoints[0][None], area[:, None])  # (P, K)
    best = similarity.argmax(axis=1) if len(rows) else np.zeros(0, np.intp)
    # Several candidates may have the same pose; the one with the closest score counts.
    for index, row in enumerate(rows):
        equal = np.flatnonzero(similarity[index] >= LEAST_OKS)
        if len(equal):
            best[index] = equal[np.abs(other.scores[0][equal] - one.scores[0][row]).argmin()]
    each = np.arange(len(rows))
    return similarity[each, best], np.abs(other.scores[0][best] - one.scores[0][rows])


def _oks(found: NDArray[np.float32], expected: NDArray[np.float32], area: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the object keypoint similarity, over keypoints that one of both is confident of; (..., 17, 3) each, area (...)."""
    variances = 2.0 * (2.0 * np.array(OKS_SIGMAS, np.float32)) ** 2  # (17,)
    squared = ((found[..., :2] - expected[..., :2]) ** 2).sum(axis=-1)  # (..., 17)
    likely = np.maximum(found[..., 2], expected[..., 2]) >= _LIKELY_PLACE
    similarity = np.exp(-squared / (np.asarray(area)[..., None] * _BODY_SHARE * variances))
    count = likely.sum(axis=-1)
    return np.asarray(np.where(count > 0, (similarity * likely).sum(axis=-1) / np.maximum(count, 1), similarity.mean(axis=-1)), np.float32)


def _refuse_different(result: GoldenResult, name: str) -> None:
    if result.least_oks < LEAST_OKS or result.most_difference > MOST_SCORE_DIFFERENCE:
        raise ModelError(
            f"{name} does not find the people that onnxruntime finds with the same file on the shipped photograph: {result.words};"
            f" expected OKS {LEAST_OKS} or more and scores within {MOST_SCORE_DIFFERENCE}"
        )


def _photograph() -> NDArray[np.uint8]:
    image = cv2.imread(str(_PHOTOGRAPH))
    if image is None:
        raise EngineError(f"{_PHOTOGRAPH} cannot be read; expected the package to be complete")
    return np.ascontiguousarray(image[..., ::-1])
