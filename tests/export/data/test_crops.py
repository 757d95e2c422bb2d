"""Crops for a refiner: where the person comes to lie, and who is labeled."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.pose.regions import Region
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import CropPlans, Jitter
from testing.export.folders import PLACES, write_dotted

SIZE = 160
PLAIN = replace(Augmentation.none(), top_left=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CocoPose:
    return CocoPose([write_dotted(tmp_path_factory.mktemp("crops") / "dotted")])


def test_a_crop_is_the_square_that_the_runtime_cuts(data: CocoPose) -> None:
    plan = CropPlans(data, 1.1, Jitter(0, 0)).plan(0, SIZE, PLAIN, np.random.default_rng(0))
    region = Region.around(data[0].boxes[0], 1.1, (SIZE, SIZE))
    expected = region.to_crop(PLACES.astype(np.float32))
    np.testing.assert_allclose(plan.labels.keypoints[0, :, :2], expected, atol=0.6)  # the runtime rounds to whole pixels
    crop = np.empty((SIZE, SIZE, 3), np.uint8)
    region.cut(data.image(0), crop)
    painted = paint(data, plan, SIZE)
    assert np.abs(cv2.GaussianBlur(painted, (0, 0), 3).astype(int) - cv2.GaussianBlur(crop, (0, 0), 3)).max() < 12


def test_labels_lie_on_their_dots_whatever_chance_does(data: CocoPose) -> None:
    augmentation = replace(Augmentation().without_color(), rotate=1.0)
    plans = CropPlans(data, 1.2)
    for number in range(12):
        plan = plans.plan(number % len(plans), SIZE, augmentation, np.random.default_rng(number))
        image = paint(data, plan, SIZE)
        for x, y, v in plan.labels.keypoints[0]:
            if v and 4 < x < SIZE - 4 and 4 < y < SIZE - 4:
                assert image[int(y), int(x)].max() > 60


def test_only_one_person_is_labeled_and_nothing_else_is_background(tmp_path: Path) -> None:
    data = CocoPose([write_dotted(tmp_path / "dotted")])
    plan = CropPlans(data, 1.0, Jitter(0, 0)).plan(1, SIZE, PLAIN, np.random.default_rng(0))
    assert len(plan.labels.boxes) == 1
    x1, y1, x2, y2 = plan.labels.ignored[0]
    assert min(x1, y1) <= 1 or (x2 - x1) * (y2 - y1) > 0.5 * SIZE * SIZE


def test_people_with_few_keypoints_are_left_out(data: CocoPose) -> None:
    assert len(CropPlans(data, 1.1)) == len(data)
    assert len(CropPlans(data, 1.1, fewest_keypoints=18)) == 0
