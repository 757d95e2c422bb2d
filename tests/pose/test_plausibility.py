import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.config.schema import PlausibilityConfig
from edgepose.person import Person
from edgepose.pose.boxes import body_size
from edgepose.pose.plausibility import IMPOSSIBLE_FACTOR, UNEVEN_FACTOR, Plausibility
from testing.bodies import moved, standing_person, without_pose

MS = 1_000_000
LEFT_ELBOW, LEFT_WRIST, LEFT_KNEE, LEFT_ANKLE = 7, 9, 13, 15


def checked(person: Person) -> list[float]:
    """Return the factors on the confidences in a single frame."""
    result = Plausibility(PlausibilityConfig()).update([person], 0)[0]
    np.testing.assert_array_equal(result.keypoints[:, :2], person.keypoints[:, :2])
    factors: list[float] = (result.keypoints[:, 2] / person.keypoints[:, 2]).tolist()
    return factors


def only(**factors: float) -> list[float]:
    indices = {"elbow": LEFT_ELBOW, "wrist": LEFT_WRIST, "knee": LEFT_KNEE, "ankle": LEFT_ANKLE}
    expected = [1.0] * 17
    for name, factor in factors.items():
        expected[indices[name]] = factor
    return expected


def test_a_standing_person_keeps_all_confidences() -> None:
    person = standing_person()
    assert Plausibility(PlausibilityConfig()).update([person], 0) == [person]


def test_a_limb_that_is_too_long_lowers_its_far_end() -> None:
    person = standing_person()
    reach = 1.05 * float(body_size(person.box))
    assert checked(moved(person, np.array((0, reach)), LEFT_ANKLE)) == pytest.approx(only(ankle=IMPOSSIBLE_FACTOR))


def test_the_end_with_the_lower_confidence_is_lowered() -> None:
    person = moved(standing_person(), np.array((0, 1.05 * 126.5)), LEFT_WRIST)
    person.keypoints[LEFT_ELBOW, 2] = 0.3
    assert checked(person) == pytest.approx(only(elbow=IMPOSSIBLE_FACTOR))


def test_uneven_sides_are_lowered_less() -> None:
    person = standing_person()
    knee = person.keypoints[LEFT_KNEE, :2]
    stretched = moved(person, knee + np.array((0, 0.6 * 126.5)) - person.keypoints[LEFT_ANKLE, :2], LEFT_ANKLE)  # 0.6 body sizes
    folded = moved(stretched, np.array((0, -0.13 * 200)), LEFT_ANKLE + 1)  # the right one is 0.14: 4 times shorter
    assert checked(stretched) == pytest.approx(only())
    assert checked(folded) == pytest.approx(only(ankle=UNEVEN_FACTOR))


def test_a_limb_that_points_at_the_camera_keeps_its_confidences() -> None:
    person = standing_person()
    hidden = moved(person, person.keypoints[LEFT_ELBOW, :2] - person.keypoints[LEFT_WRIST, :2], LEFT_WRIST)
    assert checked(hidden) == pytest.approx(only())


# A wrist at 30 frames per second; 12 body sizes per second are 50.6 px per frame. (ms, displacement in px, factor)
WRIST_TIMES = [
    (0, 0.0, 1.0),
    (33, 10.0, 1.0),
    (67, 70.0, IMPOSSIBLE_FACTOR),  # 60 px in 34 ms
    (100, 12.0, 1.0),  # the outlier was rejected, so the return is not a jump
    (133, -80.0, IMPOSSIBLE_FACTOR),  # a real jump ...
    (167, -80.0, 1.0),  # ... is accepted once there was time for it: 92 px in 67 ms
    (167, -80.0, 1.0),  # no time has passed
    (200, -80.0, 1.0),
]


def test_speed_of_a_wrist_with_literal_times() -> None:
    # This tests the speed only: limbs may have any length.
    checks, person = Plausibility(PlausibilityConfig(maximum_bone_ratio=50)), standing_person(track=1)
    for time_ms, offset, expected in WRIST_TIMES:
        result = checks.update([moved(person, np.array((offset, 0)), LEFT_WRIST)], time_ms * MS)[0]
        assert (result.keypoints[:, 2] / 0.9).tolist() == pytest.approx(only(wrist=expected)), f"at {time_ms} ms"


def test_camera_motion_does_not_count_as_speed() -> None:
    checks = Plausibility(PlausibilityConfig())
    for index in range(10):
        person = standing_person(100 + 120 * index, height=60, track=1)  # 95 body sizes per second
        assert checks.update([person], index * 33 * MS) == [person]


@pytest.mark.parametrize("time_ms", [600, -100])
def test_a_gap_resets_the_speed_check(time_ms: int) -> None:
    checks, person = Plausibility(PlausibilityConfig(maximum_bone_ratio=50, maximum_speed=0.01)), standing_person(track=1)
    checks.update([person], 0)
    far = moved(person, np.array((40, 0)), LEFT_WRIST)
    assert checks.update([far], time_ms * MS) == [far]


def test_tracks_are_independent_and_forgotten() -> None:
    checks = Plausibility(PlausibilityConfig(maximum_bone_ratio=50))
    checks.update([standing_person(100, track=1), standing_person(400)], 0)
    people = [standing_person(100), standing_person(700, track=2), moved(standing_person(100, track=1), np.array((70, 0)), LEFT_WRIST)]
    result = checks.update(people, 33 * MS)
    assert result[:2] == people[:2]
    assert (result[2].keypoints[:, 2] / 0.9).tolist() == pytest.approx(only(wrist=IMPOSSIBLE_FACTOR))
    for number in range(500):
        checks.update([standing_person(track=number)], number * 100 * MS)
    assert len(checks._accepted) <= 6


def test_disabled_or_without_people() -> None:
    person = moved(standing_person(), np.array((0, 500)), LEFT_ANKLE)
    assert Plausibility(PlausibilityConfig(enabled=False)).update([person], 0) == [person]
    assert Plausibility(PlausibilityConfig()).update([], 0) == []


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-50, 700), st.integers(0, 2**32 - 1), st.integers(0, 60)), max_size=6))
def test_confidence_never_rises_and_nothing_moves(frames: list[tuple[int, int, int]]) -> None:
    checks, time_ms = Plausibility(PlausibilityConfig()), 0
    for step_ms, seed, spread in frames:
        time_ms += step_ms
        rng = np.random.default_rng(seed)
        people = [moved(standing_person(200.0 * track, track=track), rng.normal(0, spread, (17, 2))) for track in range(3)]
        for before, after in zip(people, checks.update(people, time_ms * MS), strict=True):
            np.testing.assert_array_equal(after.keypoints[:, :2], before.keypoints[:, :2])
            assert (after.keypoints[:, 2] <= before.keypoints[:, 2]).all()
            assert (after.keypoints[:, 2] >= before.keypoints[:, 2] * np.float32(IMPOSSIBLE_FACTOR**2)).all()
            assert (after.box is before.box, after.score, after.track) == (True, before.score, before.track)


def test_the_places_of_a_person_without_a_pose_are_not_held_against_the_first_pose() -> None:
    plausibility, person = Plausibility(PlausibilityConfig()), standing_person(height=22, track=1)
    scattered = without_pose(moved(person, np.random.default_rng(0).normal(0, 30, (17, 2))))
    for frame in range(3):
        np.testing.assert_array_equal(plausibility.update([scattered], 10 * frame * MS)[0].keypoints, scattered.keypoints)
    np.testing.assert_array_equal(plausibility.update([person], 30 * MS)[0].keypoints, person.keypoints)
