"""Literal latenesses, in milliseconds."""

import pytest

from edgepose.capture.freshness import Freshness

MS = 1_000_000


def verdicts(freshness: Freshness, pictures: list[tuple[int, int]]) -> list[str]:
    """For pictures given as time of arrival and lateness; their time-stamps follow."""
    return [freshness.classify((arrival - late) * MS, late * MS, arrival * MS) for arrival, late in pictures]


def test_a_little_late_is_fresh() -> None:
    assert verdicts(Freshness(1, settle_s=0), [(0, 0), (1000, 999), (2000, 1000), (3000, 0)]) == ["fresh"] * 4


def test_a_backlog_is_dropped_until_it_is_worked_off() -> None:
    backlog = [(3000 + step * 10, 3000 - step * 200) for step in range(16)]
    assert verdicts(Freshness(1, settle_s=0), [(0, 0), *backlog, (3160, 0)]) == ["fresh"] + ["stale"] * 10 + ["fresh"] * 7


def test_pictures_that_come_later_and_later_are_in_vain() -> None:
    growing = [(step * 100, step * 50) for step in range(40)]  # a network half as fast as its stream
    said = verdicts(Freshness(1, settle_s=0), growing)
    assert said[:31] == ["fresh"] * 21 + ["stale"] * 10
    assert said[31] == "behind"


def test_a_delay_that_came_to_stay_is_in_vain_too() -> None:
    said = verdicts(Freshness(1, settle_s=0), [(0, 0)] + [(3000 + step * 100, 3000) for step in range(11)])
    assert said == ["fresh"] + ["stale"] * 10 + ["behind"]


def test_a_backlog_that_shrinks_slowly_may_go_on() -> None:
    shrinking = [(step * 100, 3000 - step * 11) for step in range(150)]
    assert set(verdicts(Freshness(1, settle_s=0), shrinking)) == {"stale"}


def test_the_next_stall_gets_its_own_patience() -> None:
    freshness = Freshness(1, settle_s=0)
    assert verdicts(freshness, [(0, 2000), (900, 2000), (950, 0), (2000, 2000), (2900, 2000), (3000, 2000)]) == [
        *("stale", "stale", "fresh", "stale", "stale", "behind")
    ]


def test_time_stamps_that_stand_still_are_told_from_a_slow_network() -> None:
    freshness = Freshness(1, settle_s=0)
    said = [freshness.classify(7 * MS, step * 100 * MS, step * 100 * MS) for step in range(22)]
    assert said == ["fresh"] * 11 + ["stale"] * 10 + ["standing"]


@pytest.mark.parametrize("late_ms", [0, 1_000_000])
def test_it_can_be_switched_off(late_ms: int) -> None:
    assert verdicts(Freshness(0), [(step * 1000, late_ms) for step in range(5)]) == ["fresh"] * 5


def paced(pictures: list[tuple[int, int]]) -> list[str]:
    """For pictures given as time-stamp and time of arrival."""
    freshness = Freshness(1)
    return [freshness.classify(pts * MS, 0, arrival * MS) for pts, arrival in pictures]


def test_what_a_stream_begins_with_counts_when_it_comes_at_its_pace() -> None:
    assert paced([(pts, 5000 + pts) for pts in range(0, 330, 33)]) == ["stale"] + ["fresh"] * 9
    kept_for_newcomers = [(pts, 5000 + pts // 50) for pts in range(0, 2000, 100)]
    assert paced([*kept_for_newcomers, (2000, 5100), (2100, 5200)]) == ["stale"] * 20 + ["fresh"] * 2


def test_a_stream_that_never_finds_its_pace_is_shown_all_the_same() -> None:
    said = paced([(number * 1000, number * 100) for number in range(40)])  # time-stamps ten times as fast as time
    assert said == ["stale"] * 30 + ["fresh"] * 10


def test_without_time_stamps_there_is_no_pace() -> None:
    assert {Freshness(1).classify(None, 0, arrival * MS) for arrival in range(5)} == {"fresh"}
