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
from edgepose.pose.refine.crop_turns import CropTurns
from edgepose.pose.refine.regions import Region, agreement, confidence_of, merge_refined, refine_people, refined_keypoints, refined_score
from testing.bodies import moved, standing_person
from testing.onnx_files import write_edgepose, write_refiner

WEIGHTS = (1.0, 2.0, 2.0)
POSITIONS = st.floats(-3000, 3000, width=32)
SIDES = st.floats(0, 2000, width=32)


def box(left: float, top: float, width: float, height: float) -> NDArray[np.float32]:
    return np.array((left, top, left + width, top + height), np.float32)


def cut(region: Region, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    crop = np.full((region.crop_height, region.crop_width, 3), 99, np.uint8)
    region.cut(image, crop)
    return crop


SHAPES = st.sampled_from([(32, 32), (256, 256), (128, 96), (96, 128), (256, 192), (32, 160), (160, 32)])
"""Height and width of crops."""


@pytest.mark.parametrize(
    ("found", "margin", "shape", "expected"),
    [
        (box(100, 50, 40, 100), 1.1, (64, 64), (65, 45, 110, 110)),  # around the center (120, 100)
        (box(100, 50, 100, 40), 1.1, (64, 64), (95, 15, 110, 110)),
        (box(100, 50, 40, 100), 1.1, (128, 96), (79, 45, 82, 110)),  # the width grows: 82.5 rounds to 82
        (box(100, 50, 90, 100), 1.0, (128, 96), (100, 40, 90, 120)),  # the height grows
        (box(100, 50, 40, 100), 1.0, (96, 128), (54, 50, 133, 100)),
        (box(0, 0, 10, 10), 1.0, (64, 64), (0, 0, 10, 10)),
        (box(0, 0, 10, 10), 2.0, (64, 64), (-5, -5, 20, 20)),
        (box(0.4, 0.4, 10.4, 10.4), 1.0, (64, 64), (1, 1, 10, 10)),  # rounded to whole pixels
        (box(7, 9, 1, 1), 1.25, (64, 64), (7, 9, 1, 1)),
        (box(7, 9, 0, 0), 1.25, (160, 32), (6, 8, 1, 1)),  # at least one pixel
    ],
)
def test_the_region_is_centered_on_the_box(
    found: NDArray[np.float32], margin: float, shape: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    region = Region.around(found, margin, shape)
    assert (region.left, region.top, region.width, region.height) == expected
    assert (region.crop_height, region.crop_width) == shape


@given(SIDES, SIDES, st.floats(1, 4), SHAPES)
def test_a_region_has_the_aspect_of_its_crop_and_the_size_of_the_box(
    width: float, height: float, margin: float, shape: tuple[int, int]
) -> None:
    region = Region.around(box(0, 0, width, height), margin, shape)
    aspect = shape[1] / shape[0]
    assert region.width == 1 or abs(region.width - region.height * aspect) <= 0.5  # not distorted by more than the rounding
    assert region.width >= width * margin - 0.5 - aspect
    assert region.height >= height * margin - 0.5
    grown = max(height, width / aspect) * margin  # and no larger than the margin asks for
    assert region.height <= max(1, grown + 0.5)


@given(POSITIONS, POSITIONS, SIDES, SIDES, st.floats(1, 4), SHAPES, st.integers(0, 2**32 - 1))
def test_points_map_to_the_crop_and_back(
    left: float, top: float, width: float, height: float, margin: float, shape: tuple[int, int], seed: int
) -> None:
    region = Region.around(box(left, top, width, height), margin, shape)
    corner, size, crop = np.array((region.left, region.top)), np.array((region.width, region.height)), np.array(shape[::-1])
    points = np.random.default_rng(seed).uniform(corner, corner + size, (20, 2)).astype(np.float32)
    there = region.to_crop(points)
    assert there.dtype == np.float32
    assert (there >= -1e-2).all()
    assert (there <= crop + 1e-2).all()
    np.testing.assert_allclose(region.to_source(there), points, atol=5e-3)
    # The crop contains the whole box, except for the rounding of its corner and sides.
    corners = region.to_crop(box(left, top, width, height).reshape(2, 2)) * (size / crop)
    assert (corners >= -2 - shape[1] / shape[0] / 2).all()
    assert (corners <= size + 2 + shape[1] / shape[0] / 2).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(-300, 300), st.integers(-300, 300), st.integers(1, 250), st.integers(1, 250), st.integers(1, 60), st.integers(1, 60))
def test_regions_are_black_outside_the_frame(left: int, top: int, across: int, down: int, height: int, width: int) -> None:
    crop = cut(Region(left, top, across, down, 48, 64), np.full((height, width, 3), 200, np.uint8))
    # By area: resizing may blend the frame with the black beside it, but keeps the mean brightness.
    overlap = max(0, min(left + across, width) - max(left, 0)) * max(0, min(top + down, height) - max(top, 0))
    assert crop.mean() / 200 == pytest.approx(overlap / (across * down), abs=0.05)
    if not overlap:
        assert (crop == 0).all()
    if overlap == across * down:
        assert (crop == 200).all()


@pytest.mark.parametrize("shape", [(64, 64), (128, 96), (64, 96)], ids=str)
@pytest.mark.parametrize(
    ("corner", "height"),
    [((390, 55), 24), ((380, 40), 48), ((375, 35), 64), ((370, 30), 100), ((350, 20), 128), ((300, -20), 301), ((-20, -30), 60)],
    ids=str,
)
def test_pixels_and_points_map_to_the_same_position(corner: tuple[int, int], height: int, shape: tuple[int, int]) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[60:70, 400:408] = 255  # its center is (404, 65)
    image[0:10, 0:8] = 255  # and (4, 5)
    region = Region(*corner, round(height * shape[1] / shape[0]), height, shape[1], shape[0])
    middle = np.array((404, 65) if corner[0] > 0 else (4, 5), np.float32)
    there = region.to_crop(middle)
    weight = cut(region, image)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
    np.testing.assert_allclose(found, there, atol=0.2)  # a wrong convention would shift by half a pixel of the crop


def test_a_strong_reduction_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = cut(Region(0, 0, 510, 510, 64, 64), stripes)
    assert 100 < crop.min() <= crop.max() < 155


def test_a_circle_stays_a_circle() -> None:
    rows, columns = np.mgrid[:480, :640] + 0.5
    disc = ((rows - 200) ** 2 + (columns - 300) ** 2 < 40**2).astype(np.uint8) * 255
    image = np.repeat(disc[..., None], 3, axis=2)
    crop = cut(Region.around(box(250, 100, 100, 200), 1.2, (128, 96)), image)[..., 0] > 127
    height, width = np.flatnonzero(crop.any(axis=1)), np.flatnonzero(crop.any(axis=0))
    assert abs(len(height) - len(width)) <= 1


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


def test_the_first_pose_has_no_say() -> None:
    coarse = replace(PERSON, keypoints=moved(PERSON, np.array((150.0, 0.0))).keypoints)
    result = merge_refined([coarse], refined(PERSON)[None], WEIGHTS, 640, 480)[0]
    assert result.agrees
    np.testing.assert_array_equal(result.person.keypoints, refined(PERSON))


def test_a_refined_pose_that_disagrees_only_lowers_the_score() -> None:
    agreed, other = merge_refined([PERSON, PERSON], np.stack((refined(PERSON), refined(PERSON, off=200))), WEIGHTS, 640, 480)
    assert (agreed.agrees, other.agrees) == (True, False)
    np.testing.assert_array_equal(other.person.keypoints, PERSON.keypoints)
    assert other.person.score < agreed.person.score


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.tuples(*[st.floats(-20, 20)] * 3))
def test_the_score_is_a_probability(score: float, agrees: float, confidence: float, weights: tuple[float, float, float]) -> None:
    found = refined_score(np.array([score]), np.array([agrees]), np.array([confidence]), weights)
    assert 0 <= found[0] <= 1
    clipped = min(max(score * confidence, 1e-6), 1 - 1e-6)
    logit = weights[0] + weights[1] * np.log(clipped / (1 - clipped)) + weights[2] * agrees
    if abs(logit) < 50:
        assert found[0] == pytest.approx(1 / (1 + np.exp(-logit)))


def test_the_confidence_of_a_pose_is_that_of_its_confident_keypoints() -> None:
    keypoints = np.zeros((2, 17, 3), np.float32)
    keypoints[0, :4, 2] = (0.9, 0.7, 0.1, 0.0)
    keypoints[1, :, 2] = 0.1
    np.testing.assert_allclose(confidence_of(keypoints), (0.8, 0.1), atol=1e-6)


def test_keypoints_of_low_confidence_do_not_count_in_the_agreement() -> None:
    second = refined(PERSON)
    whole = agreement([PERSON], second[None])[0]
    second[9, :2] += 500
    assert agreement([PERSON], second[None])[0] < 0.2
    second[9, 2] = 0.1
    assert agreement([PERSON], second[None])[0] == pytest.approx(whole, abs=0.1)
    second[1:, 2] = 0
    assert agreement([PERSON], second[None])[0] == 0


def test_refined_keypoints_outside_the_frame_have_no_confidence() -> None:
    second = refined(PERSON)
    second[0, :2] = (-50, 60)
    keypoints = merge_refined([PERSON], second[None], WEIGHTS, 640, 480)[0].person.keypoints
    np.testing.assert_array_equal(keypoints[0], (0, 60, 0))
    assert (keypoints[1:, 2] == second[1:, 2]).all()


@pytest.fixture(scope="module", params=[(64, 64), (64, 32), (32, 64)], ids=str)
def info(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    path = tmp_path_factory.mktemp("refiner") / "refiner.onnx"
    return read_model(write_refiner(path, input_shape=("M", *request.param, 3))).info


def perfect_refiner(people: list[Person], info: ModelInfo) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a refiner that finds exactly the given poses."""

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert (crops.shape, crops.dtype) == ((len(people), *info.crop_shape, 3), np.uint8)
        assert info.crop_margin is not None
        answers = np.stack([person.keypoints for person in people])
        for person, keypoints in zip(people, answers, strict=True):
            keypoints[:, :2] = Region.around(person.box, info.crop_margin, info.crop_shape).to_crop(keypoints[:, :2])
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
    height, width = info.crop_shape
    # A region as large as the crop, which thus is not resized.
    person = replace(PERSON, box=box(1000, 500, width / 1.25, height / 1.25))

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        received.append(crops)
        return np.zeros((len(crops), 17, 3), np.float32)

    refine_people(image, [person], info, run)
    region = Region.around(person.box, 1.25, info.crop_shape)
    np.testing.assert_array_equal(received[0][0], image[region.top : region.top + height, region.left : region.left + width])


def test_a_pose_network_is_not_a_refiner(tmp_path: Path) -> None:
    info = read_model(write_edgepose(tmp_path / "pose.onnx")).info
    with pytest.raises(ValueError, match="tiny is not a refiner"):
        refine_people(np.zeros((9, 9, 3), np.uint8), [PERSON], info, perfect_refiner([PERSON], info))


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_turned_crop_shows_the_turned_region(turn: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    sides = (32, 64) if turn % 2 else (64, 32)  # height and width in the frame; the crop is 64 x 32
    region = Region(20, 10, sides[1], sides[0], 32, 64, turn)
    crop = np.empty((64, 32, 3), np.uint8)
    region.cut(image, crop)
    np.testing.assert_array_equal(crop, np.rot90(image[10 : 10 + sides[0], 20 : 20 + sides[1]], turn))
    # The middle of a pixel of the frame lies in the middle of the same pixel of the crop.
    x, y = 20 + 5.5, 10 + 7.5
    column, row = region.to_crop(np.array([x, y], np.float32)) - 0.5
    np.testing.assert_array_equal(crop[round(float(row)), round(float(column))], image[17, 25])
    np.testing.assert_allclose(region.to_source(region.to_crop(np.array([x, y], np.float32))), (x, y), atol=1e-4)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_region_around_a_box_has_the_aspect_of_its_crop(turn: int) -> None:
    region = Region.around(box(100, 100, 40, 30), 1.25, (64, 48), turn)
    width, height = (region.height, region.width) if turn % 2 else (region.width, region.height)
    assert width / height == pytest.approx(0.75, abs=0.02)
    assert min(region.width / 40, region.height / 30) >= 1.25
    assert region.left + region.width / 2 == pytest.approx(120, abs=1)


class SureWhen:
    """A refiner that is sure of people only in crops whose upper left corner is red; counts its crops."""

    def __init__(self, turn: int) -> None:
        self.crops = 0
        # A red corner in the frame that is the upper left one after so many quarter turns.
        self.image = np.zeros((200, 200, 3), np.uint8)
        rows, columns = {0: (0, 0), 1: (0, 100), 2: (100, 100), 3: (100, 0)}[turn]
        self.image[rows : rows + 100, columns : columns + 100] = (255, 0, 0)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.crops += len(crops)
        found = np.full((len(crops), 17, 3), 10.0, np.float32)
        found[..., 2] = [[0.9 if crop[2, 2, 0] > 200 else 0.3] for crop in crops]
        return found


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_person_who_is_not_upright_is_refined_in_a_turned_crop(turn: int) -> None:
    run, turns = SureWhen(turn), CropTurns()
    person = Person(box(20, 20, 160, 160), 0.9, np.zeros((17, 3), np.float32), track=7)
    for _ in range(5):
        keypoints = refined_keypoints(run.image, [person], 1.0, (64, 64), run, turns)[0]
        region = Region.around(person.box, 1.0, (64, 64), turn)
        np.testing.assert_allclose(keypoints[0], (*region.to_source(np.array([10, 10], np.float32)), 0.9), atol=1e-3)
    assert turns.of(person) == turn
    assert run.crops == (5 if turn == 0 else 5 + 3)  # the track remembers its turn


def test_other_turns_of_a_person_who_stays_doubtful_are_tried_from_time_to_time() -> None:
    run, turns = SureWhen(0), CropTurns()
    black = np.zeros((200, 200, 3), np.uint8)
    person = Person(box(20, 20, 160, 160), 0.9, np.zeros((17, 3), np.float32), track=7)
    for _ in range(32):
        refined_keypoints(black, [person], 1.0, (64, 64), run, turns)
    assert run.crops == 32 + 2 * 3
    assert turns.of(person) == 0


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_while_frames_wait_one_turn_is_tried_after_the_other(turn: int) -> None:
    run, turns = SureWhen(turn), CropTurns()
    turns.hurried = True
    person = Person(box(20, 20, 160, 160), 0.9, np.zeros((17, 3), np.float32), track=7)
    for _ in range(16):
        before = run.crops
        refined_keypoints(run.image, [person], 1.0, (64, 64), run, turns)
        assert run.crops - before <= 2
    assert turns.of(person) == turn
    assert run.crops == 16 + turn


@pytest.mark.parametrize(("other", "kept"), [(0.42, True), (0.6, False)])
def test_a_track_keeps_its_turn_until_another_one_is_clearly_surer(other: float, kept: bool) -> None:
    turns = CropTurns()
    person = Person(box(20, 20, 160, 160), 0.9, np.zeros((17, 3), np.float32), track=7)

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the poses of a crop with confidence 0.35, and those of three other turns with `other`."""
        found = np.full((len(crops), 17, 3), 10.0, np.float32)
        found[..., 2] = 0.35 if len(crops) == 1 else other
        return found

    turns.note(person, 0, ())
    refined_keypoints(np.zeros((200, 200, 3), np.uint8), [person], 1.0, (64, 64), run, turns)
    assert (turns.of(person) == 0) == kept


def test_people_of_independent_pictures_are_tried_in_all_turns() -> None:
    run = SureWhen(1)
    people = [Person(box(20, 20, 160, 160), 0.9, np.zeros((17, 3), np.float32))] * 2
    assert (refined_keypoints(run.image, people, 1.0, (64, 64), run)[..., 2] > 0.8).all()
    assert run.crops == 2 * 4


def test_the_memory_of_turns_is_bounded() -> None:
    turns = CropTurns()
    for track in range(5000):
        turns.note(Person(box(0, 0, 9, 9), 0.9, np.zeros((17, 3), np.float32), track=track), 1, (1,))
    assert len(turns._turn) == len(turns._untried) == len(turns._trial) == 1000
