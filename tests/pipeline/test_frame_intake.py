from itertools import pairwise

import pytest

from edgepose.pipeline.frame_intake import DecodeSkip, RateLimit

MS = 1_000_000


@pytest.mark.parametrize(
    ("rate", "limit", "expected"), [(30, 0, 300), (30, 10, 100), (25, 10, 100), (30, 29, 290), (10, 30, 100), (15, 1, 10)]
)
def test_the_limit_holds_on_average(rate: int, limit: float, expected: int) -> None:
    passed = RateLimit(limit)
    start_ns = 1_700_000_000_000 * MS
    kept = [number for number in range(10 * rate) if passed.passes(start_ns + number * 1000 * MS // rate)]
    assert len(kept) == pytest.approx(expected, abs=1 if limit else 0)


def test_jitter_and_a_clock_that_is_set_back_stop_no_camera() -> None:
    limit = RateLimit(10)
    times = [1000 * MS, 1099 * MS, 1101 * MS, 1205 * MS, 1300 * MS, 200 * MS, 250 * MS, 300 * MS]
    assert [limit.passes(time) for time in times] == [True, False, True, True, True, True, False, True]


def fed(skip: DecodeSkip, camera_rate: float, network_rate: float, seconds: float, began_s: float) -> float:
    """Feed a decision with a live camera whose frames a network of another rate takes; return the time at the end."""
    free_s, now_s = began_s, began_s
    arrived_s: float | None = None
    for number in range(round(seconds * camera_rate)):
        now_s = began_s + number / camera_rate
        if arrived_s is not None and max(free_s, arrived_s) < now_s:
            free_s, arrived_s = max(free_s, arrived_s) + 1 / network_rate, None
        skip.update(superseded=arrived_s is not None, now_s=now_s)
        arrived_s = now_s
    return now_s


def test_decoding_is_skipped_while_the_network_takes_less_than_half() -> None:
    skip = DecodeSkip()
    now_s = fed(skip, 30, 20, 10, 0)
    assert not skip.on
    now_s = fed(skip, 30, 8, 5, now_s)
    assert skip.on
    now_s = fed(skip, 10, 8, 60, now_s)  # what is left is still more than the network takes
    assert skip.on
    now_s = fed(skip, 10, 12, 5, now_s)  # the network became faster
    assert not skip.on


def test_decoding_is_not_skipped_where_too_few_frames_remain_and_tried_again_later_and_later() -> None:
    skip = DecodeSkip()
    now_s = fed(skip, 30, 14, 5, 0)
    assert skip.on
    changes: list[float] = []
    for _ in range(400):  # each step 5 s: the decoder leaves a third of the frames, fewer than the network takes
        was = skip.on
        now_s = fed(skip, 10 if was else 30, 14, 5, now_s)
        if skip.on and not was:
            changes.append(now_s)
    waits = [later - earlier for earlier, later in pairwise(changes)]
    assert len(changes) >= 3
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
