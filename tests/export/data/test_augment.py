import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose_export.data import warp
from edgepose_export.data.augment import Augmentation, plan, sample
from edgepose_export.data.coco import CocoPose
from testing.export.folders import LEFT, RIGHT, color_of, write_dotted
from testing.export.warps import EVERYTHING, NONE, WARPS, peak

SIZE = 400  # dots stay apart in the tiles of a mosaic, and are not so magnified that their peak is flat


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dots")
    return CocoPose([write_dotted(folder / "png"), write_dotted(folder / "jpeg", suffix=".jpg", sizes=[(601, 441), (640, 480)])])


@pytest.mark.parametrize("name", WARPS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), index=st.integers(0, 4))
def test_a_dot_lies_where_the_warped_label_says(data, name, seed, index):
    made = sample(data, index, SIZE, WARPS[name], np.random.default_rng(seed))
    for keypoints in made.labels.keypoints:
        kept, swapped = [], []
        for number in np.flatnonzero(keypoints[:, 2]):
            found, color = peak(made.image, keypoints[number, :2])
            assert color.max() > 10, f"no dot at keypoint {number}"
            assert np.abs(found - keypoints[number, :2]).max() <= 1
            kept.append(color.argmax() == np.argmax(color_of(int(number))))
            swapped.append(color.argmax() == np.argmax(color_of(warp.MIRROR_ORDER[number])))
        assert all(kept) or all(swapped)  # left and right change places together or not at all


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), index=st.integers(0, 4))
def test_no_dot_is_without_a_label(data, seed, index):
    """The other direction: what can be seen in the picture is labeled."""
    made = sample(data, index, SIZE, replace(EVERYTHING, mosaic=0), np.random.default_rng(seed))
    labeled = made.labels.keypoints[made.labels.keypoints[..., 2] > 0][:, :2]
    count, _, stats, centers = cv2.connectedComponentsWithStats((made.image.max(2) > 100).astype(np.uint8))
    assert count > 1
    for center, area in zip(centers[1:count] + 0.5, stats[1:count, cv2.CC_STAT_AREA], strict=True):
        whole = (center > 8).all() and (center < SIZE - 8).all()  # a dot at the edge may have its middle outside
        if area >= 4 and whole:
            assert np.abs(labeled - center).max(1).min() <= 3


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), index=st.integers(0, 4))
def test_labels_hold_together(data, seed, index):
    labels = sample(data, index, 256, EVERYTHING, np.random.default_rng(seed)).labels
    assert labels.boxes.dtype == labels.keypoints.dtype == labels.areas.dtype == labels.ignored.dtype == np.float32
    for boxes in (labels.boxes, labels.ignored):
        assert (boxes >= 0).all()
        assert (boxes <= 256).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
    for box, keypoints, area in zip(labels.boxes, labels.keypoints, labels.areas, strict=True):
        seen = keypoints[keypoints[:, 2] > 0, :2]
        assert len(seen)
        assert (seen >= box[:2] - 1e-3).all()
        assert (seen <= box[2:] + 1e-3).all()
        assert (keypoints[keypoints[:, 2] == 0] == 0).all()
        assert 0 < area <= 1.05 * np.prod(box[2:] - box[:2])


def test_none_is_the_plain_letterbox(data):
    made = sample(data, 0, 150, NONE, np.random.default_rng(0))  # 300 x 220 -> 150 x 110
    np.testing.assert_allclose(made.labels.boxes, data[0].boxes / 2, atol=1e-4)
    np.testing.assert_allclose(made.labels.keypoints[0, :, :2], data[0].keypoints[0, :, :2] / 2, atol=1e-4)
    np.testing.assert_allclose(made.labels.areas, data[0].areas / 4, rtol=1e-4)
    assert not made.image[110:].any()
    expected = cv2.resize(data.image(0), (150, 110), interpolation=cv2.INTER_LINEAR)
    assert np.abs(made.image[:110].astype(int) - expected).max() <= 2


def test_flipping_twice_is_identity(data, tmp_path):
    """Through a file and back: picture and labels."""
    flip = replace(NONE, flip=1)
    once = sample(data, 2, 300, flip, np.random.default_rng(0))
    assert not np.array_equal(once.image, data.image(2))
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), once.image[..., ::-1])
    box = once.labels.boxes[0].tolist()
    annotation = {
        "image_id": 1,
        "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        "area": float(once.labels.areas[0]),
        "keypoints": once.labels.keypoints[0].ravel().tolist(),
    }
    images = [{"id": 1, "file_name": "a.png", "width": 300, "height": 300}]
    (tmp_path / "annotations.json").write_text(json.dumps({"images": images, "annotations": [annotation]}))
    twice = sample(CocoPose([tmp_path]), 0, 300, flip, np.random.default_rng(1))
    np.testing.assert_array_equal(twice.image, data.image(2))
    np.testing.assert_allclose(twice.labels.boxes, data[2].boxes, atol=1e-3)
    np.testing.assert_allclose(twice.labels.keypoints, data[2].keypoints, atol=1e-3)
    np.testing.assert_allclose(twice.labels.areas, data[2].areas, rtol=1e-4)


def test_flip_puts_left_where_right_was(data):
    made = sample(data, 2, 300, replace(NONE, flip=1), np.random.default_rng(0))
    for number in range(1, 17):
        _, color = peak(made.image, made.labels.keypoints[0, number, :2])
        assert tuple(int(round(value / 255) * 255) for value in color) == (RIGHT if number % 2 else LEFT)


def test_people_too_small_or_mostly_outside_become_ignore_regions(data):
    small = sample(data, 0, 300, replace(NONE, scale=(0.1, 0.1), smallest_person_px=50), np.random.default_rng(0)).labels
    assert len(small.boxes) == 0
    assert small.ignored.shape == (1, 4)
    cut = sample(data, 0, 300, replace(NONE, scale=(3, 3), least_visible=0.5), np.random.default_rng(0)).labels
    assert len(cut.boxes) == 0
    np.testing.assert_allclose(cut.ignored, [[60, 90, 300, 300]], atol=1e-3)


@pytest.mark.parametrize(("own_resolution", "sides"), [(False, (0.25, 0.5)), (True, (0.25, 1.0))])
def test_large_pictures_are_shown_at_up_to_their_own_resolution(tmp_path, own_resolution, sides):
    data = CocoPose([write_dotted(tmp_path / "large", sizes=[(640, 640), (200, 200)])])
    augmentation = replace(NONE, scale=(0.5, 1.0), own_resolution=own_resolution)
    rng = np.random.default_rng(0)
    scales = [warp.magnification(plan(data, 0, 320, augmentation, rng).parts[0].matrix, 640, 640) for _ in range(200)]
    assert (min(scales), max(scales)) == pytest.approx(sides, rel=0.05)
    # A small picture is not enlarged further.
    assert warp.magnification(plan(data, 1, 320, augmentation, rng).parts[0].matrix, 200, 200) <= 1.61


def test_incompletely_labeled_picture_is_one_ignore_region_with_people_in_it(tmp_path):
    data = CocoPose([write_dotted(tmp_path / "a", sizes=[(300, 220)], all_people_labeled=False)])
    labels = sample(data, 0, 300, NONE, np.random.default_rng(0)).labels
    assert len(labels.boxes) == 1
    np.testing.assert_allclose(labels.ignored, [[0, 0, 300, 220]], atol=1e-3)


def test_an_upright_box_keeps_its_size_and_a_turned_one_is_tight(data):
    upright = sample(data, 2, 300, NONE, np.random.default_rng(0)).labels.boxes[0]
    np.testing.assert_allclose(upright, data[2].boxes[0], atol=1e-3)
    picture = data[2]
    around = warp.moved(150, 150) @ warp.turned(45) @ warp.moved(-150, -150)
    turned = warp.follow(picture, around, False, (-500, -500, 800, 800), 0, 0).boxes[0]
    corners = warp.project(around, np.array([(20.0, 30), (280, 30), (280, 180), (20, 180)]))
    assert np.prod(turned[2:] - turned[:2]) < 0.95 * np.prod(corners.max(0) - corners.min(0))


def test_same_seed_same_sample(data):
    first, second = (sample(data, 1, 256, Augmentation(), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels.keypoints, second.labels.keypoints)


@pytest.mark.parametrize(
    "change",
    [{"light": 1}, {"gray": 1}, {"blur": 1}, {"motion_blur": 1}, {"noise": 1}, {"dark": 1}, {"jpeg": 1, "jpeg_quality": (20, 30)}],
    ids=lambda change: next(iter(change)),
)
def test_color_changes_pixels_and_not_labels(data, change):
    plain = sample(data, 0, 256, NONE, np.random.default_rng(3))
    changed = sample(data, 0, 256, replace(NONE, **change), np.random.default_rng(3))
    assert changed.image.shape == (256, 256, 3)
    assert changed.image.dtype == np.uint8
    assert not np.array_equal(plain.image, changed.image)
    np.testing.assert_array_equal(plain.labels.keypoints, changed.labels.keypoints)
    if "gray" in change:
        assert np.ptp(changed.image.astype(int), axis=2).max() <= 1
