from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.config.schema import TrackConfig
from edgepose.person import Person
from edgepose.pose.boxes import iou
from edgepose.pose.kalman import BoxFilter
from edgepose.pose.track import Tracker, _assigned
from testing.bodies import moved, standing_person, without_pose

MS = 1_000_000


def new_tracker(**changes: float) -> Tracker:
    return Tracker(TrackConfig(**changes), keypoint_threshold=0.2, score_threshold=0.3)  # type: ignore[arg-type]


def numbers(people: Sequence[Person]) -> list[int | None]:
    return [person.track for person in people]


# A person who walks right at 60 px/s. The times are those of a live stream: uneven, with drops, one frame twice.
# (ms, left edge or None if not detected, score, published track numbers)
WALK: list[tuple[int, float | None, float, list[int | None]]] = [
    (0, 100.0, 0.80, [None]),
    (33, 102.0, 0.82, [1]),
    (67, 104.0, 0.25, [1]),  # a low score, but tracked
    (100, 106.0, 0.81, [1]),
    (100, 106.0, 0.81, [1]),  # no time has passed
    (133, None, 0.0, []),
    (167, None, 0.0, []),
    (400, 124.0, 0.79, [1]),  # the camera stalled
    (433, 126.0, 0.10, []),  # below low_score_threshold
    (467, 128.0, 0.16, [1]),
    (1900, 214.0, 0.80, [1]),  # 1.43 s: within max_lost_s
    (3500, 310.0, 0.80, [None]),  # 1.6 s: forgotten
    (3533, 312.0, 0.80, [2]),
    (3000, 312.0, 0.80, [2]),  # the clock was set back
    (3033, 314.0, 0.80, [2]),
]


def test_a_walk_with_literal_times() -> None:
    tracker = new_tracker()
    for time_ms, left, score, expected in WALK:
        people = [] if left is None else [standing_person(left, score=score)]
        assert numbers(tracker.update(people, time_ms * MS)) == expected, f"at {time_ms} ms"


def test_low_scores_are_published_for_tracked_people_only() -> None:
    tracker = new_tracker()
    tracked, stranger = standing_person(100, score=0.8), standing_person(400, score=0.2)
    tracker.update([tracked, stranger], 0)
    assert numbers(tracker.update([tracked, stranger], 33 * MS)) == [1]
    tracked_low = standing_person(100, score=0.2)
    published = tracker.update([tracked_low, stranger], 67 * MS)
    assert [(person.track, person.score) for person in published] == [(1, 0.2)]


def test_low_scores_never_confirm_a_track() -> None:
    tracker = new_tracker()
    tracker.update([standing_person(score=0.8)], 0)
    assert tracker.update([standing_person(score=0.2)], 33 * MS) == []
    assert numbers(tracker.update([standing_person(score=0.8)], 67 * MS)) == [None]


@pytest.mark.parametrize(("hits", "expected"), [(1, [1, 1, 1, 1]), (2, [None, 1, 1, 1]), (4, [None, None, None, 1])])
def test_sightings_before_a_number(hits: int, expected: list[int | None]) -> None:
    tracker = new_tracker(min_hits=hits)
    assert [tracker.update([standing_person()], index * 33 * MS)[0].track for index in range(4)] == expected


def test_flicker_gets_no_number() -> None:
    tracker = new_tracker()
    seen = [numbers(tracker.update([standing_person()] if index % 2 else [], index * 33 * MS)) for index in range(10)]
    assert seen == [[], [None]] * 5


def test_numbers_are_never_reused() -> None:
    tracker = new_tracker(min_hits=1)
    assert numbers(tracker.update([standing_person(100), standing_person(300)], 0)) == [1, 2]
    tracker.reset()
    assert numbers(tracker.update([standing_person(100), standing_person(300)], 33 * MS)) == [3, 4]


def test_order_and_values_are_kept() -> None:
    people = [standing_person(300, score=0.5), standing_person(100, score=0.9), standing_person(500, score=0.4)]
    tracker = new_tracker(min_hits=1)
    published = tracker.update(people, 0)
    for person, original in zip(published, people, strict=True):
        assert person.score == original.score
        assert person.box is original.box
        assert person.keypoints is original.keypoints
    again = tracker.update(people[::-1], 33 * MS)
    assert numbers(again) == numbers(published)[::-1]


def test_a_second_box_of_a_person_takes_neither_the_number_nor_a_new_one() -> None:
    tracker = new_tracker()
    for index in range(40):
        person = standing_person(100 + 2 * index, score=0.8 if index % 3 else 0.4)
        double = standing_person(110 + 2 * index, score=0.5)
        published = tracker.update([person, double] if index % 4 else [person], index * 33 * MS)
        assert numbers(published) == ([1] if index else [None]) + [None] * (len(published) - 1)


def test_somebody_who_stays_in_front_of_somebody_else_gets_a_number_later() -> None:
    tracker = new_tracker()
    seen = [numbers(tracker.update([standing_person(100), standing_person(110, score=0.7)], index * 33 * MS)) for index in range(30)]
    assert seen[10] == [1, None]
    assert seen[-1] == [1, 2]


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_the_assignment_has_the_lowest_cost(count: int, width: int, seed: int) -> None:
    costs = -np.random.default_rng(seed).integers(0, 9, (count, width)).astype(np.float32)
    rows, columns = _assigned(costs)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == min(costs.shape)
    wide = costs if count <= width else costs.T
    lowest = min(sum(wide[row, column] for row, column in enumerate(order)) for order in permutations(range(wide.shape[1]), len(wide)))
    assert costs[rows, columns].sum() == lowest


def walkers(time_s: float, rng: np.random.Generator) -> list[Person]:
    """Return two people who walk past each other at 130 px/s; the farther one is hidden while the boxes overlap."""
    near, far = standing_person(50 + 130 * time_s, 100, 200), standing_person(570 - 130 * time_s, 96, 185)
    hidden = float(iou(near.box, far.box)) > 0.35
    seen = [near] if hidden else [near, far]
    shaken = []
    for person in seen:
        noise = rng.normal(0, 2, (17, 2))
        box = person.box + rng.normal(0, 2, 4).astype(np.float32)
        shaken.append(Person(box, 0.8, moved(person, noise).keypoints))
    return shaken


@pytest.mark.parametrize("frames_per_s", [5, 10, 15, 30])
@pytest.mark.parametrize("seed", range(5))
def test_crossing_walkers_keep_their_numbers(frames_per_s: int, seed: int) -> None:
    tracker, rng = new_tracker(), np.random.default_rng(seed)
    hidden_frames = 0
    first: list[int | None] = []
    for index in range(4 * frames_per_s):
        time_s = index / frames_per_s
        people = walkers(time_s, rng)
        rng.shuffle(people)
        published = tracker.update(people, int(time_s * 1e9))
        hidden_frames += len(people) == 1
        by_height = sorted(published, key=lambda person: -(person.box[3] - person.box[1]))
        if index == 1:
            first = numbers(by_height)
        elif index > 1:
            assert numbers(by_height) == first[: len(by_height)], f"at {time_s} s"
    assert hidden_frames >= 1
    assert None not in first


def test_a_person_keeps_their_number_behind_a_pillar() -> None:
    tracker = new_tracker()
    for index in range(60):
        time_s = index / 15
        hidden = 1.5 < time_s < 2.5  # 1 s and 120 px, more than the width of the body
        published = tracker.update([] if hidden else [standing_person(50 + 120 * time_s)], int(time_s * 1e9))
        if index:
            assert numbers(published) == ([] if hidden else [1])


def test_a_dozen_people_in_motion() -> None:
    rng = np.random.default_rng(0)
    tracker = new_tracker()
    first: list[int | None] = []
    places = np.stack((np.arange(12) % 6 * 150.0, np.arange(12) // 6 * 260.0), axis=1)
    speeds = rng.uniform(-25, 25, (12, 2))
    for index in range(45):
        people = [standing_person(left, top, height=150) for left, top in places + speeds * index / 15]
        order = rng.permutation(12)
        published = tracker.update([people[which] for which in order], int(index / 15 * 1e9))
        if index:
            given_numbers = [published[int(np.flatnonzero(order == which)[0])].track for which in range(12)]
            first = first or given_numbers
            assert given_numbers == first
    assert sorted(number for number in first if number) == list(range(1, 13))


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(-200, 3000),
            st.lists(st.tuples(st.floats(-100, 700), st.floats(1, 400), st.floats(0, 1), st.floats(0, 1)), max_size=5),
        ),
        max_size=12,
    )
)
def test_numbers_are_unique_and_no_high_score_is_lost(frames: list[tuple[int, list[tuple[float, ...]]]]) -> None:
    tracker, time_ms = new_tracker(), 0
    for step_ms, shapes in frames:
        time_ms += step_ms
        people = [standing_person(left, 10.0, height, score, confidence) for left, height, score, confidence in shapes]
        published = tracker.update(people, time_ms * MS)
        given_numbers = [person.track for person in published if person.track is not None]
        assert len(given_numbers) == len(set(given_numbers))
        assert [p.score for p in published if p.score >= 0.3] == [p.score for p in people if p.score >= 0.3]
        assert all(person.score >= 0.3 or person.track is not None for person in published)


@pytest.mark.parametrize("size", [20.0, 200.0])
def test_the_filter_predicts_a_walker_at_any_distance(size: float) -> None:
    corner = np.array((0, 0, 0.4, 1.0), np.float32) * size
    step = np.array((0.6, 0, 0.6, 0), np.float32) * size / 15  # 0.6 heights a second
    box_filter = BoxFilter(corner)
    for index in range(1, 16):
        box_filter.predict(1 / 15)
        box_filter.correct((corner + step * index).astype(np.float32))
    box_filter.predict(3 / 15)
    np.testing.assert_allclose(box_filter.box / size, (corner + step * 18) / size, atol=0.02)
    np.testing.assert_allclose(np.array(box_filter.displacement) / size, (0.12, 0), atol=0.02)


def test_the_filter_survives_no_time_and_very_long_times() -> None:
    box_filter = BoxFilter(np.array((0, 0, 40, 100), np.float32))
    for elapsed_s in (0.0, 0.0, 1 / 30, 3600.0, 0.0, 1 / 30):
        box_filter.predict(elapsed_s)
        assert np.isfinite(box_filter.box).all()
        box_filter.correct(np.array((5, 0, 45, 100), np.float32))
    np.testing.assert_allclose(box_filter.box, (5, 0, 45, 100), atol=3)


def test_people_without_poses_are_tracked_by_their_boxes() -> None:
    tracker = new_tracker(min_hits=1)
    random = np.random.default_rng(0)
    for frame in range(20):
        # Keypoints anywhere, without confidence; in the middle the person is close enough for a pose.
        small = without_pose(moved(standing_person(100 + frame, height=20), random.normal(0, 50, (17, 2))))
        other = standing_person(300 - frame, height=20) if 5 < frame < 10 else without_pose(standing_person(300 - frame, height=20))
        assert numbers(tracker.update([small, other], 40 * frame * MS)) == [1, 2]
