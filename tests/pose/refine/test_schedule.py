"""The refinement schedule: budget, deadlines and order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.config.schema import RefineConfig
from edgepose.person import Person
from edgepose.pose.refine.schedule import RefineSchedule, is_too_small, without_small_poses
from testing.bodies import standing_person


def crowd(count: int, seed: int = 0, *, tracked: bool = True) -> list[Person]:
    generator = np.random.default_rng(seed)
    return [
        standing_person(
            10 * number, 10, float(generator.uniform(25, 400)), float(generator.uniform(0, 1)), track=number + 1 if tracked else None
        )
        for number in range(count)
    ]


@settings(max_examples=200)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_every_tracked_person_is_refined_by_their_deadline(people: int, budget: int, untracked: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    schedule = RefineSchedule(RefineConfig(people=budget))
    bound = -(-people // budget)
    waited = dict.fromkeys(range(1, people + 1), 0)
    for frame in range(6 * bound):
        # Scores, sizes and the order change from frame to frame; untracked people come and go.
        found = crowd(people, seed + frame) + crowd(untracked, seed + 1000 + frame, tracked=False)
        found = [found[index] for index in generator.permutation(len(found))]
        chosen = schedule.choose(found, cost_ms=5.0)
        assert len(chosen) == len(set(chosen)) == min(budget, len(found))
        refined = {found[index].track for index in chosen}
        for track in waited:
            waited[track] = 0 if track in refined else waited[track] + 1
            assert waited[track] < bound


def test_nobody_waits_if_the_budget_suffices_for_all() -> None:
    schedule = RefineSchedule(RefineConfig(people=10))
    assert sorted(schedule.choose(crowd(10), 5.0)) == list(range(10))


@pytest.mark.parametrize("tracked", [True, False])
def test_no_people_or_no_budget(tracked: bool) -> None:
    assert RefineSchedule(RefineConfig(people=3)).choose([], 5.0) == []
    assert RefineSchedule(RefineConfig(people=0)).choose(crowd(3, tracked=tracked), 5.0) == []


CERTAIN, UNCERTAIN, HOPELESS = (
    standing_person(score=0.95, height=200),
    standing_person(score=0.5, height=200),
    standing_person(score=0.03, height=200),
)


@pytest.mark.parametrize(
    ("people", "first"),
    [
        ([CERTAIN, UNCERTAIN], 1),
        ([CERTAIN, HOPELESS, UNCERTAIN], 2),  # certainly not a person is as certain as certainly a person
        ([standing_person(score=0.7, height=400), standing_person(score=0.7, height=50)], 1),
        ([UNCERTAIN, UNCERTAIN], 0),
    ],
    ids=["uncertain", "not the hopeless", "small", "in order"],
)
def test_the_most_urgent_comes_first_without_tracking(people: list[Person], first: int) -> None:
    assert RefineSchedule(RefineConfig(people=1)).choose(people, 5.0) == [first]


def test_budget_that_no_deadline_requires_goes_to_the_most_uncertain() -> None:
    schedule = RefineSchedule(RefineConfig(people=2))
    people = [standing_person(score=score, track=track) for track, score in ((1, 0.5), (2, 0.95), (3, 0.95))]
    refined = [track for _ in range(12) for track in schedule.choose(people, 5.0)]
    counts = [refined.count(index) for index in range(3)]
    assert sum(counts) == 24
    assert counts[0] > counts[1] >= 6
    assert counts[0] > counts[2] >= 6


def test_a_new_person_does_not_overtake_the_overdue() -> None:
    schedule = RefineSchedule(RefineConfig(people=1))
    old = [standing_person(score=0.95, track=track) for track in (1, 2)]
    first = schedule.choose(old, 5.0)[0]
    new = standing_person(score=0.5, track=3)
    chosen = schedule.choose([*old, new], 5.0)
    refined = {first, *chosen, *schedule.choose([*old, new], 5.0)}
    assert refined == {0, 1, 2}


@given(st.floats(0.5, 100), st.lists(st.floats(0.5, 60), min_size=1, max_size=60), st.integers(1, 20))
def test_the_budget_holds_on_average_and_a_frame_costs_at_most_the_budget_or_one_person(
    budget_ms: float, costs_ms: list[float], people: int
) -> None:
    schedule = RefineSchedule(RefineConfig(people=100, budget_ms=budget_ms))
    spent_ms = 0.0
    for frame, cost_ms in enumerate(costs_ms, 1):
        chosen = schedule.choose(crowd(people), cost_ms)
        assert len(chosen) * cost_ms <= max(budget_ms, cost_ms) + 1e-6
        spent_ms += len(chosen) * cost_ms
        assert spent_ms <= frame * budget_ms + max(costs_ms) + 1e-6


@pytest.mark.parametrize(("budget_ms", "cost_ms", "people"), [(20, 6, 3), (20, 20, 1), (0, 999, 8), (1000, 6, 8), (20, 0, 8)])
def test_milliseconds_limit_the_number_of_people(budget_ms: float, cost_ms: float, people: int) -> None:
    schedule = RefineSchedule(RefineConfig(people=8, budget_ms=budget_ms))
    assert [len(schedule.choose(crowd(12), cost_ms)) for _ in range(5)] == [people] * 5


def test_a_person_who_costs_several_frames_is_paid_for_by_them() -> None:
    schedule = RefineSchedule(RefineConfig(people=8, budget_ms=10))
    assert [len(schedule.choose(crowd(12), 30.0)) for _ in range(9)] == [0, 0, 1] * 3
    # In turn: with one person every third frame, nobody is refined twice before all were refined once.
    refined = [index for _ in range(27) for index in schedule.choose(crowd(9), 30.0)]
    assert len(set(refined)) == 9


def test_memory_is_bounded_and_cleared_by_a_reset() -> None:
    schedule = RefineSchedule(RefineConfig(people=1))
    for track in range(1000):
        schedule.choose([standing_person(track=track)], 5.0)
    assert len(schedule._last_refined) == len(schedule._last_seen) <= 301
    schedule.reset()
    assert not schedule._last_refined


@pytest.mark.parametrize(
    ("width", "height", "minimum_px", "small"),
    [(10, 23.9, 24, True), (10, 24, 24, False), (24, 8, 24, False), (23, 8, 24, True), (3, 5, 0, False), (100, 199, 200, True)],
    ids=str,
)
def test_the_longer_side_of_the_box_decides_who_is_too_small(width: float, height: float, minimum_px: int, small: bool) -> None:
    box = np.array((50, 60, 50 + width, 60 + height), np.float32)
    person = Person(box, 0.5, standing_person().keypoints, 7)
    config = RefineConfig(people=5, min_height_px=minimum_px)
    assert is_too_small(person, config) == small
    assert RefineSchedule(config).choose([person], 5.0) == ([] if small else [0])
    (shown,) = without_small_poses([person], config)
    assert shown.has_pose != small
    assert (shown.score, shown.track, shown.box.tolist()) == (0.5, 7, box.tolist())
    np.testing.assert_array_equal(shown.keypoints[:, :2], person.keypoints[:, :2])
    assert person.has_pose  # the one from the pose network does not change


def test_people_who_are_too_small_take_no_budget_from_others() -> None:
    schedule = RefineSchedule(RefineConfig(people=2))
    people = [standing_person(height=10, score=0.5, track=1), *crowd(4)[1:], standing_person(height=12, score=0.5)]
    refined = [index for _ in range(6) for index in schedule.choose(people, 5.0)]
    assert len(refined) == 12
    assert set(refined) == {1, 2, 3}


def busy_gaps(people: list[Person], budget: int, frames: int) -> dict[int, int]:
    """Return the longest time in frames between two refinements of each track where only the binding ones take place."""
    schedule = RefineSchedule(RefineConfig(people=budget))
    last = {person.track: 0 for person in people if person.track is not None}
    longest = dict.fromkeys(last, 0)
    for frame in range(1, frames):
        turn = schedule.turn(people, 5.0)
        schedule.refined([people[index] for index in turn.due], 5.0)
        assert len(turn.due) <= budget
        for index in turn.due:
            track = people[index].track
            assert track is not None
            longest[track], last[track] = max(longest[track], frame - last[track]), frame
    return {track: max(longest[track], frames - last[track]) for track in last}


@pytest.mark.parametrize(("count", "budget", "within"), [(1, 8, 10), (8, 8, 10), (25, 8, 10), (80, 8, 10), (200, 8, 25), (7, 1, 10)])
def test_an_adaptive_budget_refines_each_track_in_every_tenth_frame_if_a_frame_always_waits(count: int, budget: int, within: int) -> None:
    assert max(busy_gaps(crowd(count), budget, 100).values()) <= within


def test_due_people_are_spread_over_the_frames() -> None:
    schedule, people = RefineSchedule(RefineConfig(people=8)), crowd(10)
    refined = []
    for _ in range(40):
        turn = schedule.turn(people, 5.0)
        schedule.refined([people[index] for index in turn.due], 5.0)
        refined.append(len(turn.due))
    assert max(refined) == 1
    assert sum(refined[10:]) == 30


@given(st.integers(0, 12), st.integers(0, 4), st.integers(1, 6), st.integers(0, 20))
def test_an_adaptive_turn_holds_what_a_frame_without_haste_refines(tracked: int, untracked: int, budget: int, frames: int) -> None:
    adaptive, unhurried = (RefineSchedule(RefineConfig(people=budget)) for _ in range(2))
    people = crowd(tracked) + crowd(untracked, 1, tracked=False)
    for _ in range(frames + 1):
        turn = adaptive.turn(people, 5.0)
        assert not set(turn.due) & set(turn.others)
        assert turn.available == len(people)
        adaptive.refined([people[index] for index in turn.due + turn.others], 5.0)
        assert set(turn.due + turn.others) == set(unhurried.choose(people, 5.0))
        assert len(turn.due + turn.others) == min(budget, len(people))


def test_a_fixed_budget_is_binding() -> None:
    turn = RefineSchedule(RefineConfig(people=8, budget_ms=20)).turn(crowd(6), 5.0)
    assert (len(turn.due), turn.others, turn.available) == (4, [], 6)
