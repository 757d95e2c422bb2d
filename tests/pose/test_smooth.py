from collections.abc import Sequence

import numpy as np
import pytest

from edgepose.config.schema import SmoothConfig
from edgepose.pose.boxes import body_size
from edgepose.pose.smooth import Smoother
from testing.bodies import moved, standing_person, without_pose

MS = 1_000_000
WRIST = 9

# The wrist of a person 200 px tall jumps 10 px to the right; filtered by hand with the formulas of the paper:
# body size sqrt(80 * 200) = 126.49 px; gain(f, t) = 2 pi f t / (2 pi f t + 1).
#   33 ms at rest: 0. 67 ms: 10 px measured: raw speed 10 / 0.034 = 294.12 px/s; gain(3, 0.034) = 0.39057 -> 114.87 px/s
#   = 0.90816 bodies/s; cutoff 0.5 + 16 * (0.90816 - 0.15) = 12.6306 Hz; gain(12.6306, 0.034) = 0.72960 -> 7.2960 px
STEP = [(0, 0.0, 0.0), (33, 0.0, 0.0), (67, 10.0, 7.2960)]


def test_a_step_with_literal_times() -> None:
    smoother, person = Smoother(SmoothConfig()), standing_person(track=1)
    for time_ms, offset, expected in STEP:
        smooth = smoother.update([moved(person, np.array((offset, 0)), WRIST)], time_ms * MS)[0]
        assert smooth.keypoints[WRIST, 0] - person.keypoints[WRIST, 0] == pytest.approx(expected, abs=2e-3)
        others = np.arange(17) != WRIST
        np.testing.assert_allclose(smooth.keypoints[others], person.keypoints[others], atol=1e-3)


def jitter(frames_per_s: int, height: float) -> tuple[float, float]:
    """Return the factors by which the spread and the frame-to-frame steps of a person at rest decrease, for noise of 0.01 body sizes."""
    rng, smoother, person = np.random.default_rng(0), Smoother(SmoothConfig()), standing_person(height=height, track=1)
    seen, smooth = [], []
    for index in range(20 * frames_per_s):
        shaken = moved(person, rng.normal(0, 0.01 * float(body_size(person.box)), (17, 2)))
        steady = smoother.update([shaken], int(index / frames_per_s * 1e9))[0]
        if index > frames_per_s:
            seen.append(shaken.keypoints[:, :2])
            smooth.append(steady.keypoints[:, :2])
    spread = np.std(seen, axis=0).mean() / np.std(smooth, axis=0).mean()
    steps = np.diff(seen, axis=0).std() / np.diff(smooth, axis=0).std()
    return float(spread), float(steps)


@pytest.mark.parametrize(("frames_per_s", "least_spread", "least_steps"), [(10, 2.1, 3.9), (15, 2.0, 3.7), (30, 1.9, 3.8), (60, 2.0, 4.6)])
def test_jitter_at_rest_decreases(frames_per_s: int, least_spread: float, least_steps: float) -> None:
    """Measured: spread 2.3, 2.1, 2.0, 2.1 and steps 4.3, 4.1, 4.1, 5.0 times smaller at 10, 15, 30, 60 frames per second."""
    spread, steps = jitter(frames_per_s, 200)
    assert spread >= least_spread
    assert steps >= least_steps


def test_smoothing_does_not_depend_on_distance() -> None:
    assert jitter(30, 40) == pytest.approx(jitter(30, 400), rel=0.01)


@pytest.mark.parametrize("frames_per_s", [10, 15, 30])
@pytest.mark.parametrize(("bodies_per_s", "most_ms"), [(0.2, 55), (0.5, 27), (1.0, 16), (2.0, 9), (4.0, 5.5)])
def test_lag_of_a_moving_wrist(frames_per_s: int, bodies_per_s: float, most_ms: float) -> None:
    """Measured at 10 / 30 frames per second: 53 / 35 ms at 0.2 body sizes per second, 10 / 9 at 1, 2 / 2 at 4; below 0.02 body sizes."""
    smoother, person = Smoother(SmoothConfig()), standing_person(track=1)
    size = float(body_size(person.box))
    behind = 0.0
    for index in range(2 * frames_per_s):
        time_s = index / frames_per_s
        travelled = max(0.0, time_s - 1) * bodies_per_s * size
        smooth = smoother.update([moved(person, np.array((travelled, 0)), WRIST)], int(time_s * 1e9))[0]
        behind = float(person.keypoints[WRIST, 0] + travelled - smooth.keypoints[WRIST, 0]) / size
    assert behind < 0.02
    assert behind / bodies_per_s * 1e3 <= most_ms


def wrist_ways(offsets: Sequence[float], confidence: float, frames_per_s: int, body_px: float = 0.0) -> list[float]:
    """Return where the smoothed wrist is in each frame, in body sizes, when the network sees it at offsets in body sizes.

    The person walks by `body_px` pixels a frame, which are not counted.
    """
    smoother, person = Smoother(SmoothConfig()), standing_person(confidence=confidence, track=1)
    size = float(body_size(person.box))
    ways = []
    for index, offset in enumerate(offsets):
        walked = moved(person, np.array((index * body_px, 0)))
        smooth = smoother.update([moved(walked, np.array((offset * size, 0)), WRIST)], round(index / frames_per_s * 1e9))[0]
        ways.append(float(smooth.keypoints[WRIST, 0] - walked.keypoints[WRIST, 0]) / size)
    return ways


@pytest.mark.parametrize("frames_per_s", [10, 30])
@pytest.mark.parametrize("body_px", [0.0, 3.0])
def test_a_doubtful_wrist_that_jumps_to_another_place_and_back_is_held(frames_per_s: int, body_px: float) -> None:
    """The network sees it in one place in two frames of three, else 0.6 body sizes away: most of the jitter of people at rest."""
    seen = np.random.default_rng(3).random(8 * frames_per_s) < 1 / 3
    seen[:2] = False
    ways = wrist_ways(np.where(seen, 0.6, 0.0).tolist(), 0.3, frames_per_s, body_px)
    assert np.abs(ways).max() < 0.1


def test_a_doubtful_wrist_leaves_a_place_where_it_is_seldom_seen() -> None:
    seen = np.random.default_rng(3).random(90) < 0.2
    seen[0] = True
    assert np.abs(wrist_ways(np.where(seen, 0.6, 0.0).tolist(), 0.3, 30)[5:]).max() < 0.1


@pytest.mark.parametrize(("confidence", "most_frames"), [(0.3, 14), (0.5, 9), (0.7, 6), (0.9, 5)])
def test_a_wrist_that_is_elsewhere_for_good_is_followed(confidence: float, most_frames: int) -> None:
    """After a second in one place; the surer, the sooner."""
    ways = wrist_ways([0.0] * 30 + [0.6] * 30, confidence, 30)
    assert np.flatnonzero(np.array(ways) > 0.55)[0] - 30 < most_frames


@pytest.mark.parametrize(("frames_per_s", "confidence"), [(10, 0.5), (10, 0.8), (30, 0.3), (30, 0.8)])
def test_a_wrist_that_begins_to_wave_is_not_held(frames_per_s: int, confidence: float) -> None:
    """Once a second by 0.2 body sizes to either side, from rest: never farther from where it is seen than what it moves in 0.08 s."""
    times_s = np.arange(3 * frames_per_s) / frames_per_s
    seen = np.where(times_s > 1, 0.2 * (1 - np.cos(2 * np.pi * (times_s - 1))), 0)
    ways = wrist_ways(seen.tolist(), confidence, frames_per_s)
    assert np.abs(seen - ways).max() < 0.2 * 2 * np.pi * 0.08


def test_keypoints_of_low_confidence_move_less() -> None:
    offsets = []
    for confidence in (0.9, 0.25, 0.01):
        smoother, person = Smoother(SmoothConfig()), standing_person(confidence=confidence, track=1)
        smoother.update([person], 0)
        smooth = smoother.update([moved(person, np.array((3, 0)), WRIST)], 33 * MS)[0]
        offsets.append(float(smooth.keypoints[WRIST, 0] - person.keypoints[WRIST, 0]))
    assert offsets[0] > 2 * offsets[1] > 4 * offsets[2] > 0


@pytest.mark.parametrize("time_ms", [501, 60_000, -1, -60_000])
def test_a_gap_or_a_clock_set_back_resets_the_filters(time_ms: int) -> None:
    smoother, person = Smoother(SmoothConfig()), standing_person(track=1)
    smoother.update([person], 0)
    far = moved(person, np.array((50, 20)))
    assert smoother.update([far], time_ms * MS)[0] is far
    nearer = moved(person, np.array((55, 20)))
    assert smoother.update([nearer], (time_ms + 33) * MS)[0].keypoints[0, 0] == pytest.approx(person.keypoints[0, 0] + 52.5, abs=2)


def test_without_elapsed_time_nothing_moves() -> None:
    smoother, person = Smoother(SmoothConfig()), standing_person(track=1)
    smoother.update([person], 0)
    np.testing.assert_array_equal(smoother.update([moved(person, np.array((50, 20)))], 0)[0].keypoints, person.keypoints)


def test_tracks_are_independent_and_untracked_people_pass() -> None:
    smoother = Smoother(SmoothConfig())
    smoother.update([standing_person(100, track=1), standing_person(300, track=2)], 0)
    untracked, new = standing_person(500), standing_person(700, track=3)
    people = smoother.update([standing_person(300, track=2), untracked, standing_person(100, track=1), new], 33 * MS)
    np.testing.assert_allclose([person.keypoints[0, 0] for person in people], [340, 540, 140, 740], atol=1e-3)
    assert people[1] is untracked
    assert [person.track for person in people] == [2, None, 1, 3]


def test_lost_tracks_are_forgotten() -> None:
    smoother = Smoother(SmoothConfig())
    for number in range(500):
        smoother.update([standing_person(track=number)], number * 100 * MS)
    assert len(smoother._filtered) <= 6
    smoother.reset()
    assert not smoother._filtered


def test_disabled_nothing_changes() -> None:
    smoother, person = Smoother(SmoothConfig(enabled=False)), standing_person(track=1)
    smoother.update([person], 0)
    far = moved(person, np.array((50, 20)))
    assert smoother.update([far], 33 * MS) == [far]


def test_a_person_without_a_pose_neither_changes_nor_delays_the_first_pose() -> None:
    smoother, person = Smoother(SmoothConfig()), standing_person(height=22, track=1)
    for frame in range(5):
        small = without_pose(moved(person, np.array((3.0 * frame, 0))))
        assert smoother.update([small], 40 * frame * MS) == [small]
    np.testing.assert_array_equal(smoother.update([person], 200 * MS)[0].keypoints, person.keypoints)
