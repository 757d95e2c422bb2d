"""Crops for a refiner: where the person comes to lie, and who is labeled."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.pose.refine.regions import Region
from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.batches import Batches
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


def test_a_crop_of_another_aspect_holds_the_grown_box(data: CocoPose) -> None:
    x1, y1, x2, y2 = (float(value) for value in data[0].boxes[0])  # 260 x 150: the width decides in both crops
    for height, width in ((128, 96), (96, 128)):
        plan = CropPlans(data, 1.25, Jitter(0, 0)).plan(0, (height, width), PLAIN, np.random.default_rng(0))
        scale = width / (1.25 * (x2 - x1))
        expected = (PLACES - ((x1 + x2) / 2, (y1 + y2) / 2)) * scale + (width / 2, height / 2)
        np.testing.assert_allclose(plan.labels.keypoints[0, :, :2], expected, atol=1e-3)
        image = paint(data, plan, (height, width))
        assert image.shape == (height, width, 3)
        for x, y in expected:
            assert image[int(y), int(x)].max() > 60


def test_a_turned_person_stays_inside_and_fills_the_crop(data: CocoPose) -> None:
    plans = CropPlans(data, 1.1, Jitter(0, 0))
    upside_down = 0
    for seed in range(40):
        plan = plans.plan(0, (128, 96), replace(PLAIN, turn=1.0), np.random.default_rng(seed))
        assert (plan.labels.keypoints[0, :, 2] == 2).all()
        x1, y1, x2, y2 = plan.labels.boxes[0]
        np.testing.assert_allclose([(x1 + x2) / 2, (y1 + y2) / 2], [48, 64], atol=0.1)
        assert max((x2 - x1) / 96, (y2 - y1) / 128) == pytest.approx(1 / 1.1, abs=0.01)
        upside_down += bool(plan.labels.keypoints[0, 0, 1] > plan.labels.keypoints[0, 16, 1])
    assert 12 < upside_down < 28  # the first dot is above the last one in the picture


@pytest.mark.parametrize("angle_deg", [-170.0, -90.0, 0.0, 25.0, 100.0])
def test_a_batch_knows_how_far_its_crops_are_turned(data: CocoPose, angle_deg: float) -> None:
    for mirror in (-1, 1):
        matrix = warp.moved(3, 4) @ warp.scaled(0.3, 0.3) @ warp.turned(angle_deg) @ warp.scaled(mirror, 1)
        assert warp.turn_deg(matrix) == pytest.approx(abs(angle_deg), abs=1e-9)
    augmentation = replace(PLAIN, flip=0.5, rotate=1.0, rotate_degrees=25.0)
    with Batches(data, augmentation, batch_size=3, sizes=((128, 96),), plans=CropPlans(data, 1.1)) as batches:
        turns_deg = next(batches).turns_deg
    assert turns_deg.shape == (3,)
    assert ((turns_deg > 0) & (turns_deg <= 25)).all()


def test_a_cover_hides_a_part_of_the_person(data: CocoPose) -> None:
    plans, augmentation = CropPlans(data, 1.1, Jitter(0, 0)), replace(PLAIN, cover=1.0)
    colors, pictures = 0, 0
    for seed in range(20):
        plan = plans.plan(0, (128, 96), augmentation, np.random.default_rng(seed))
        (cover,) = plan.covers
        x1, y1, x2, y2 = cover.rectangle
        assert 0 <= x1 < x2 <= 96
        assert 0 <= y1 < y2 <= 128
        covered = [x1 <= x < x2 and y1 <= y < y2 for x, y, _ in plan.labels.keypoints[0]]
        assert [v for _, _, v in plan.labels.keypoints[0]] == [1 if hidden else 2 for hidden in covered]
        painted = paint(data, plan, (128, 96))
        without = paint(data, replace(plan, covers=()), (128, 96))
        changed = (painted != without).any(2)
        changed[y1:y2, x1:x2] = False
        assert not changed.any()
        if cover.part is None:
            colors += 1
            assert (painted[y1:y2, x1:x2] == cover.color).all()
        else:
            pictures += 1
            picture = data[cover.part.index]
            left, top, right, bottom = warp.bounds(cover.part.matrix, picture.width, picture.height)
            assert left <= x1 + 1e-6
            assert top <= y1 + 1e-6
            assert right >= x2 - 1e-6
            assert bottom >= y2 - 1e-6
    assert min(colors, pictures) >= 5


def test_jitter_is_as_measured_and_never_turns_a_box_inside_out() -> None:
    rng = np.random.default_rng(0)
    box = np.array([10.0, 20.0, 50.0, 120.0])
    moved = np.array([Jitter().of(box, rng) for _ in range(4000)])
    errors = (moved - box) / 100
    assert np.abs(errors.mean(0)).max() < 0.01
    assert 1.4826 * np.median(np.abs(errors)) == pytest.approx(0.027, abs=0.006)
    assert errors.std() == pytest.approx(0.065, abs=0.015)
    assert ((moved[:, 2:] - moved[:, :2]) >= (9.99, 24.99)).all()
    assert np.array_equal(Jitter(0, 0).of(box, rng), box)


def test_only_one_person_is_labeled_and_nothing_else_is_background(tmp_path: Path) -> None:
    data = CocoPose([write_dotted(tmp_path / "dotted")])
    plan = CropPlans(data, 1.0, Jitter(0, 0)).plan(1, SIZE, PLAIN, np.random.default_rng(0))
    assert len(plan.labels.boxes) == 1
    x1, y1, x2, y2 = plan.labels.ignored[0]
    assert min(x1, y1) <= 1 or (x2 - x1) * (y2 - y1) > 0.5 * SIZE * SIZE


def test_people_with_few_keypoints_are_left_out(data: CocoPose) -> None:
    assert len(CropPlans(data, 1.1)) == len(data)
    assert len(CropPlans(data, 1.1, fewest_keypoints=18)) == 0
