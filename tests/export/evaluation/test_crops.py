"""The accuracy of a refiner by itself, on poses with known errors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepose.person import OKS_SIGMAS
from edgepose_export.data.augment import Augmentation
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans, Jitter
from edgepose_export.evaluation.crops import crop_accuracy, network_crop_accuracy
from testing.export.folders import write_dotted
from testing.export.tiny import TINY_REFINER, lively

SIZE, MARGIN = 192, 1.2


class KnownRefiner:
    """Answers with the labels, each keypoint moved so that its similarity is `similarity`."""

    def __init__(self, data: CocoPose, similarity: float) -> None:
        plans = CropPlans(data, MARGIN, Jitter(0, 0), fewest_keypoints=1)
        plain = replace(Augmentation.none(), top_left=0)
        self._labels = [plans.plan(index, SIZE, plain, np.random.default_rng(0)).labels for index in range(len(plans))]
        self._similarity = similarity
        self._next = 0

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        assert crops.shape[1:] == (SIZE, SIZE, 3)
        assert crops.dtype == np.uint8
        answers = []
        for labels in self._labels[self._next : self._next + len(crops)]:
            # COCO: similarity = exp(-d^2 / (2 area (2 sigma)^2))
            away = np.sqrt(-2 * np.log(self._similarity) * labels.areas[0]) * 2 * np.array(OKS_SIGMAS)
            keypoints = labels.keypoints[0].copy()
            keypoints[:, 0] += away
            answers.append(keypoints)
        self._next += len(crops)
        return np.array(answers, np.float32)


@pytest.fixture
def data(tmp_path: Path) -> CocoPose:
    return CocoPose([write_dotted(tmp_path / "dotted")])


@pytest.mark.parametrize(("similarity", "share"), [(1.0, 1.0), (0.96, 1.0), (0.72, 0.5), (0.51, 0.1), (0.4, 0.0)])
def test_the_share_of_thresholds_that_are_passed(data: CocoPose, similarity: float, share: float) -> None:
    assert crop_accuracy(KnownRefiner(data, similarity), MARGIN, data, SIZE) == pytest.approx(share)


def test_a_network_that_knows_nothing_is_hardly_ever_right(data: CocoPose) -> None:
    assert 0 <= network_crop_accuracy(lively(0, TINY_REFINER), data) < 0.2
