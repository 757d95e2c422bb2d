from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.config.schema import TrackConfig
from edgepose.person import Person
from edgepose.pose.boxes import iou
from edgepose.pose.kalman import BoxFilter
from edgepose.pose.track import Tracker
from testing.bodies import moved, standing_person

MS = 1_000_000


def tracker(**changes: float) -> Tracker:
    return Tracker(TrackConfig(**changes), keypoint_threshold=0.2, score_threshold=0.3)  # type: ignore[arg-type]


def numbers(people: Sequence[Person]) -> list[int | None]:
    return [person.track for person in people]


# One walker, 60 px/s to the right. Times as a live stream gives them: uneven, with drops, one frame twice.
# (ms, left edge or None where nobody is found, score, what is published)
WALK: list[tuple[int, float | None, float, list[int | None]]] = [
    (0, 100.0, 0.80, [None]),
    (33, 102.0, 0.82, [1]),
    (67, 104.0, 0.25, [1]),  # weak, but known
    (100, 106.0, 0.81, [1]),
    (100, 106.0, 0.81, [1]),  # no time went by
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
    followed = tracker()
    for time_ms, left, score, expected in WALK:
        people = [] if left is None else [standing_person(left, score=score)]
        assert numbers(followed.update(people, time_ms * MS)) == expected, f"at {time_ms} ms"


def test_weak_strangers_are_dropped_and_weak_friends_published() -> None:
    followed = tracker()
    friend, stranger = standing_person(100, score=0.8), standing_person(400, score=0.2)
    followed.update([friend, stranger], 0)
    assert numbers(followed.update([friend, stranger], 33 * MS)) == [1]
    weak_friend = standing_person(100, score=0.2)
    published = followed.update([weak_friend, stranger], 67 * MS)
    assert [(person.track, person.score) for person in published] == [(1, 0.2)]


def test_weak_people_never_confirm() -> None:
    followed = tracker()
    followed.update([standing_person(score=0.8)], 0)
    assert followed.update([standing_person(score=0.2)], 33 * MS) == []
    assert numbers(followed.update([standing_person(score=0.8)], 67 * MS)) == [None]


@pytest.mark.parametrize(("hits", "expected"), [(1, [1, 1, 1, 1]), (2, [None, 1, 1, 1]), (4, [None, None, None, 1])])
def test_sightings_before_a_number(hits: int, expected: list[int | None]) -> None:
    followed = tracker(min_hits=hits)
    assert [followed.update([standing_person()], index * 33 * MS)[0].track for index in range(4)] == expected


def test_flicker_gets_no_number() -> None:
    followed = tracker()
    seen = [numbers(followed.update([standing_person()] if index % 2 else [], index * 33 * MS)) for index in range(10)]
    assert seen == [[], [None]] * 5


def test_numbers_are_never_given_twice() -> None:
    followed = tracker(min_hits=1)
    assert numbers(followed.update([standing_person(100), standing_person(300)], 0)) == [1, 2]
    followed.reset()
    assert numbers(followed.update([standing_person(100), standing_person(300)], 33 * MS)) == [3, 4]


def test_order_and_values_are_kept() -> None:
    people = [standing_person(300, score=0.5), standing_person(100, score=0.9), standing_person(500, score=0.4)]
    followed = tracker(min_hits=1)
    published = followed.update(people, 0)
    for person, original in zip(published, people, strict=True):
        assert person.score == original.score
        assert person.box is original.box
        assert person.keypoints is original.keypoints
    again = followed.update(people[::-1], 33 * MS)
    assert numbers(again) == numbers(published)[::-1]


def walkers(time_s: float, rng: np.random.Generator) -> list[Person]:
    """Two people who walk towards and past one another at 130 px/s; the farther one is hidden while the boxes overlap."""
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
    followed, rng = tracker(), np.random.default_rng(seed)
    hidden_frames = 0
    first: list[int | None] = []
    for index in range(4 * frames_per_s):
        time_s = index / frames_per_s
        people = walkers(time_s, rng)
        rng.shuffle(people)  # type: ignore[arg-type]
        published = followed.update(people, int(time_s * 1e9))
        hidden_frames += len(people) == 1
        by_height = sorted(published, key=lambda person: -(person.box[3] - person.box[1]))
        if index == 1:
            first = numbers(by_height)
        elif index > 1:
            assert numbers(by_height) == first[: len(by_height)], f"at {time_s} s"
    assert hidden_frames >= 1
    assert None not in first


def test_somebody_behind_a_pillar_is_known_again() -> None:
    followed = tracker()
    for index in range(60):
        time_s = index / 15
        hidden = 1.5 < time_s < 2.5  # 1 s and 120 px, which is more than the body is wide
        published = followed.update([] if hidden else [standing_person(50 + 120 * time_s)], int(time_s * 1e9))
        if index:
            assert numbers(published) == ([] if hidden else [1])


def test_a_dozen_people_in_motion() -> None:
    rng = np.random.default_rng(0)
    followed = tracker()
    first: list[int | None] = []
    places = np.stack((np.arange(12) % 6 * 150.0, np.arange(12) // 6 * 260.0), axis=1)
    speeds = rng.uniform(-25, 25, (12, 2))
    for index in range(45):
        people = [standing_person(*(place + speed * index / 15), height=150) for place, speed in zip(places, speeds, strict=True)]
        order = rng.permutation(12)
        published = followed.update([people[which] for which in order], int(index / 15 * 1e9))
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
def test_whatever_comes_numbers_are_unique_and_nobody_strong_is_lost(frames: list[tuple[int, list[tuple[float, ...]]]]) -> None:
    followed, time_ms = tracker(), 0
    for step_ms, shapes in frames:
        time_ms += step_ms
        people = [standing_person(left, 10.0, height, score, confidence) for left, height, score, confidence in shapes]
        published = followed.update(people, time_ms * MS)
        given_numbers = [person.track for person in published if person.track is not None]
        assert len(given_numbers) == len(set(given_numbers))
        assert [p.score for p in published if p.score >= 0.3] == [p.score for p in people if p.score >= 0.3]
        assert all(person.score >= 0.3 or person.track is not None for person in published)


@pytest.mark.parametrize("size", [20.0, 200.0])
def test_filter_predicts_a_walker_at_any_distance(size: float) -> None:
    corner = np.array((0, 0, 0.4, 1.0), np.float32) * size
    step = np.array((0.6, 0, 0.6, 0), np.float32) * size / 15  # 0.6 heights a second
    believed = BoxFilter(corner)
    for index in range(1, 16):
        believed.predict(1 / 15)
        believed.correct(corner + step * index)
    believed.predict(3 / 15)
    np.testing.assert_allclose(believed.box / size, (corner + step * 18) / size, atol=0.02)
    np.testing.assert_allclose(believed.displacement / size, (0.12, 0), atol=0.02)


def test_filter_survives_no_time_and_very_much() -> None:
    believed = BoxFilter(np.array((0, 0, 40, 100), np.float32))
    for elapsed_s in (0.0, 0.0, 1 / 30, 3600.0, 0.0, 1 / 30):
        believed.predict(elapsed_s)
        assert np.isfinite(believed.box).all()
        believed.correct(np.array((5, 0, 45, 100), np.float32))
    np.testing.assert_allclose(believed.box, (5, 0, 45, 100), atol=3)
