import random

from edgepose.supervision.backoff import DoublingWait, FullJitterBackoff


def test_bounds_double_up_to_the_maximum_and_start_again_after_a_reset() -> None:
    backoff = FullJitterBackoff(0.25, 4, random=lambda: 1.0)
    assert [backoff.next_s() for _ in range(7)] == [0.25, 0.5, 1, 2, 4, 4, 4]
    backoff.reset()
    assert backoff.next_s() == 0.25


def test_a_wait_is_the_drawn_part_of_its_bound() -> None:
    drawn = iter([0.0, 0.5, 0.25])
    backoff = FullJitterBackoff(1, 10, random=lambda: next(drawn))
    assert [backoff.next_s() for _ in range(3)] == [0, 1, 1]


def test_an_initial_bound_above_the_maximum_is_cut() -> None:
    assert FullJitterBackoff(9, 4, random=lambda: 1.0).next_s() == 4


def test_waits_fill_their_range_and_never_leave_it() -> None:
    backoff = FullJitterBackoff(1, 1, random=random.Random(5).random)
    waits = [backoff.next_s() for _ in range(1000)]
    assert 0 <= min(waits) < 0.01
    assert 0.99 < max(waits) < 1
    backoff = FullJitterBackoff(0.25, 4)
    assert all(0 <= backoff.next_s() <= 4 for _ in range(2000))  # no overflow in a long outage


def test_waits_double_until_nothing_fails_for_a_while() -> None:
    wait = DoublingWait(2, 16, settled_s=30)
    attempts = [now_s for now_s in range(100) if wait.due(now_s)]  # something fails every second
    assert attempts == [0, 2, 6, 14, 30, 46, 62, 78, 94]
    assert [now_s for now_s in range(200, 210) if wait.due(now_s)] == [200, 202, 206]
    assert not wait.due(211)
