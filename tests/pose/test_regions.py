"""Crops for the refiner, and the combination of first and refined poses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgepose.model.file import ModelInfo, read_model
from edgepose.person import Person
from edgepose.pose.regions import Region, agreement, merge_refined, refine_people, refined_score
from testing.bodies import moved, standing_person
from testing.onnx_files import write_edgepose, write_refiner

WEIGHTS = (-1.0, 0.5, 2.0, 2.0)
POSITIONS = st.floats(-3000, 3000, width=32)
SIDES = st.floats(0, 2000, width=32)


def box(left: float, top: float, width: float, height: float) -> NDArray[np.float32]:
    return np.array((left, top, left + width, top + height), np.float32)


def cut(region: Region, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    crop = np.full((region.crop_side, region.crop_side, 3), 99, np.uint8)
    region.cut(image, crop)
    return crop


@pytest.mark.parametrize(
    ("found", "margin", "expected"),
    [
        (box(100, 50, 40, 100), 1.1, (65, 45, 110)),  # around the center (120, 100)
        (box(100, 50, 100, 40), 1.1, (95, 15, 110)),
        (box(0, 0, 10, 10), 1.0, (0, 0, 10)),
        (box(0, 0, 10, 10), 2.0, (-5, -5, 20)),
        (box(0.4, 0.4, 10.4, 10.4), 1.0, (1, 1, 10)),  # rounded to whole pixels
        (box(7, 9, 1, 1), 1.25, (7, 9, 1)),
        (box(7, 9, 0, 0), 1.25, (6, 8, 1)),  # at least one pixel
    ],
)
def test_the_region_is_centered_on_the_box(found: NDArray[np.float32], margin: float, expected: tuple[int, int, int]) -> None:
    region = Region.around(found, margin, 64)
    assert (region.left, region.top, region.side) == expected


@given(POSITIONS, POSITIONS, SIDES, SIDES, st.floats(1, 4), st.sampled_from([32, 192, 256]), st.integers(0, 2**32 - 1))
def test_points_map_to_the_crop_and_back(
    left: float, top: float, width: float, height: float, margin: float, crop_side: int, seed: int
) -> None:
    region = Region.around(box(left, top, width, height), margin, crop_side)
    corner = np.array((region.left, region.top))
    points = np.random.default_rng(seed).uniform(corner, corner + region.side, (20, 2)).astype(np.float32)
    there = region.to_crop(points)
    assert there.dtype == np.float32
    assert (there >= -1e-2).all()
    assert (there <= crop_side + 1e-2).all()
    np.testing.assert_allclose(region.to_source(there), points, atol=5e-3)
    # The crop contains the whole box, except for the rounding of its corner and side.
    corners = region.to_crop(box(left, top, width, height).reshape(2, 2)) * (region.side / crop_side)
    assert (corners >= -2).all()
    assert (corners <= region.side + 2).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(-300, 300), st.integers(-300, 300), st.integers(1, 250), st.integers(1, 60), st.integers(1, 60))
def test_regions_are_black_outside_the_frame(left: int, top: int, side: int, height: int, width: int) -> None:
    crop = cut(Region(left, top, side, 64), np.full((height, width, 3), 200, np.uint8))
    # By area: resizing may blend the frame with the black beside it, but keeps the mean brightness.
    overlap = max(0, min(left + side, width) - max(left, 0)) * max(0, min(top + side, height) - max(top, 0))
    assert crop.mean() / 200 == pytest.approx(overlap / side**2, abs=0.05)
    if not overlap:
        assert (crop == 0).all()
    if overlap == side**2:
        assert (crop == 200).all()


@pytest.mark.parametrize(
    ("corner", "side"),
    [((390, 55), 24), ((380, 40), 48), ((375, 35), 64), ((370, 30), 100), ((350, 20), 128), ((300, -20), 301), ((-20, -30), 60)],
    ids=str,
)
def test_pixels_and_points_map_to_the_same_position(corner: tuple[int, int], side: int) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[60:70, 400:408] = 255  # its center is (404, 65)
    image[0:10, 0:8] = 255  # and (4, 5)
    region = Region(*corner, side, 64)
    middle = np.array((404, 65) if corner[0] > 0 else (4, 5), np.float32)
    there = region.to_crop(middle)
    weight = cut(region, image)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:64, :64] + 0.5
    found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(found, there, atol=0.2)  # a wrong convention would shift by half a pixel of the crop


def test_a_strong_reduction_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(Region(0, 0, 510, 64), stripes)
    assert 100 < crop.min() <= crop.max() < 155


PERSON = standing_person(score=0.5)


def refined(person: Person, confidence: float = 0.9, off: float = 0.0) -> NDArray[np.float32]:
    """Return refined keypoints with a horizontal error in pixels."""
    keypoints: NDArray[np.float32] = moved(person, np.array((off, 0.0))).keypoints.copy()
    keypoints[:, 2] = confidence
    return keypoints


def test_a_refined_pose_that_agrees_replaces_the_first() -> None:
    second = refined(PERSON, confidence=0.95, off=2)
    result = merge_refined([replace(PERSON, track=7)], second[None], WEIGHTS, 640, 480)[0]
    assert result.agrees
    np.testing.assert_array_equal(result.person.keypoints, second)
    np.testing.assert_array_equal(result.person.box, PERSON.box)
    assert result.person.track == 7
    assert result.person.score > 0.5


def test_a_refined_pose_that_disagrees_only_lowers_the_score() -> None:
    agreed, other = merge_refined([PERSON, PERSON], np.stack((refined(PERSON), refined(PERSON, off=200))), WEIGHTS, 640, 480)
    assert (agreed.agrees, other.agrees) == (True, False)
    np.testing.assert_array_equal(other.person.keypoints, PERSON.keypoints)
    assert other.person.score < agreed.person.score


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.tuples(*[st.floats(-20, 20)] * 4))
def test_the_score_is_a_probability(score: float, similar: float, confidence: float, weights: tuple[float, float, float, float]) -> None:
    found = refined_score(np.array([score]), np.array([similar]), np.array([confidence]), weights)
    assert 0 <= found[0] <= 1
    clipped = min(max(score, 1e-6), 1 - 1e-6)
    logit = weights[0] + weights[1] * np.log(clipped / (1 - clipped)) + weights[2] * similar + weights[3] * confidence
    if abs(logit) < 50:
        assert found[0] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_keypoints_of_low_confidence_do_not_count_in_the_agreement() -> None:
    second = refined(PERSON)
    second[9:, :2] += 500
    assert agreement([PERSON], second[None])[0] < 0.6
    second[9:, 2] = 0
    assert agreement([PERSON], second[None])[0] == pytest.approx(1)
    second[:, 2] = 0
    assert agreement([PERSON], second[None])[0] == 0


def test_refined_keypoints_outside_the_frame_have_no_confidence() -> None:
    second = refined(PERSON)
    second[0, :2] = (-50, 60)
    keypoints = merge_refined([PERSON], second[None], WEIGHTS, 640, 480)[0].person.keypoints
    np.testing.assert_array_equal(keypoints[0], (0, 60, 0))
    assert (keypoints[1:, 2] == second[1:, 2]).all()


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return read_model(write_refiner(tmp_path_factory.mktemp("refiner") / "refiner.onnx")).info


def perfect_refiner(people: list[Person], info: ModelInfo) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a refiner that finds exactly the given poses."""

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert (crops.shape, crops.dtype) == ((len(people), 64, 64, 3), np.uint8)
        assert info.crop_margin is not None
        answers = np.stack([person.keypoints for person in people])
        for person, keypoints in zip(people, answers, strict=True):
            keypoints[:, :2] = Region.around(person.box, info.crop_margin, 64).to_crop(keypoints[:, :2])
        return answers

    return run


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-100, 400), st.integers(-100, 300), st.integers(1, 500)), max_size=4))
def test_people_anywhere_are_refined(info: ModelInfo, people_at: list[tuple[int, int, int]]) -> None:
    people = [standing_person(left, top, height) for left, top, height in people_at]
    results = refine_people(np.zeros((240, 320, 3), np.uint8), people, info, perfect_refiner(people, info))
    assert len(results) == len(people)
    for person, result in zip(people, results, strict=True):
        assert np.isfinite(result.person.keypoints).all()
        assert 0 <= result.person.score <= 1
        inside = (person.keypoints[:, :2] >= 0).all() and (person.keypoints[:, :2] <= (320, 240)).all()
        if inside:
            assert result.agrees
            np.testing.assert_allclose(result.person.keypoints, person.keypoints, atol=1e-3)


def test_crops_come_from_the_full_resolution_frame(info: ModelInfo) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    received = []
    person = standing_person(1000, 500, 51.2)  # a region of 64 px: the crop is not resized

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        received.append(crops)
        return np.zeros((len(crops), 17, 3), np.float32)

    refine_people(image, [person], info, run)
    region = Region.around(person.box, 1.25, 64)
    np.testing.assert_array_equal(received[0][0], image[region.top : region.top + 64, region.left : region.left + 64])


def test_a_pose_network_is_not_a_refiner(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "pose.onnx")).info
    with pytest.raises(ValueError, match="tiny is not a refiner"):
        refine_people(np.zeros((9, 9, 3), np.uint8), [PERSON], info, perfect_refiner([PERSON], info))
