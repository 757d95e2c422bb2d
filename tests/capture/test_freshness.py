"""Literal delays, in milliseconds."""

import pytest

from edgepose.capture.freshness import Freshness

MS = 1_000_000


def states(freshness: Freshness, frames: list[tuple[int, int]]) -> list[str]:
    """Classify frames given as time of arrival and delay; their timestamps follow from both."""
    return [freshness.classify((arrival - late) * MS, late * MS, arrival * MS) for arrival, late in frames]


def test_a_little_late_is_fresh() -> None:
    assert states(Freshness(1, settle_s=0), [(0, 0), (1000, 999), (2000, 1000), (3000, 0)]) == ["fresh"] * 4


def test_a_backlog_is_dropped_until_it_is_gone() -> None:
    backlog = [(3000 + step * 10, 3000 - step * 200) for step in range(16)]
    assert states(Freshness(1, settle_s=0), [(0, 0), *backlog, (3160, 0)]) == ["fresh"] + ["stale"] * 10 + ["fresh"] * 7


def test_frames_that_arrive_later_and_later_are_behind() -> None:
    growing = [(step * 100, step * 50) for step in range(40)]  # a network half as fast as its stream
    found = states(Freshness(1, settle_s=0), growing)
    assert found[:31] == ["fresh"] * 21 + ["stale"] * 10
    assert found[31] == "behind"


def test_a_constant_delay_is_behind_too() -> None:
    found = states(Freshness(1, settle_s=0), [(0, 0)] + [(3000 + step * 100, 3000) for step in range(11)])
    assert found == ["fresh"] + ["stale"] * 10 + ["behind"]


def test_a_backlog_that_shrinks_slowly_is_only_stale() -> None:
    shrinking = [(step * 100, 3000 - step * 11) for step in range(150)]
    assert set(states(Freshness(1, settle_s=0), shrinking)) == {"stale"}


def test_each_stall_gets_its_own_patience() -> None:
    freshness = Freshness(1, settle_s=0)
    assert states(freshness, [(0, 2000), (900, 2000), (950, 0), (2000, 2000), (2900, 2000), (3000, 2000)]) == [
        *("stale", "stale", "fresh", "stale", "stale", "behind")
    ]


def test_timestamps_that_stand_still_differ_from_a_slow_network() -> None:
    freshness = Freshness(1, settle_s=0)
    found = [freshness.classify(7 * MS, step * 100 * MS, step * 100 * MS) for step in range(22)]
    assert found == ["fresh"] * 11 + ["stale"] * 10 + ["standing"]


@pytest.mark.parametrize("late_ms", [0, 1_000_000])
def test_it_can_be_disabled(late_ms: int) -> None:
    assert states(Freshness(0), [(step * 1000, late_ms) for step in range(5)]) == ["fresh"] * 5


def paced(frames: list[tuple[int, int]]) -> list[str]:
    """Classify frames given as timestamp and time of arrival."""
    freshness = Freshness(1)
    return [freshness.classify(pts * MS, 0, arrival * MS) for pts, arrival in frames]


def test_the_first_frames_count_once_they_arrive_at_their_own_rate() -> None:
    assert paced([(pts, 5000 + pts) for pts in range(0, 330, 33)]) == ["stale"] + ["fresh"] * 9
    kept_for_new_clients = [(pts, 5000 + pts // 50) for pts in range(0, 2000, 100)]
    assert paced([*kept_for_new_clients, (2000, 5100), (2100, 5200)]) == ["stale"] * 20 + ["fresh"] * 2


def test_a_stream_that_never_settles_is_used_anyway() -> None:
    found = paced([(number * 1000, number * 100) for number in range(40)])  # timestamps run ten times as fast as time
    assert found == ["stale"] * 30 + ["fresh"] * 10


def test_without_timestamps_there_is_no_settling() -> None:
    assert {Freshness(1).classify(None, 0, arrival * MS) for arrival in range(5)} == {"fresh"}
