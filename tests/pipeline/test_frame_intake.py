import pytest

from edgepose.pipeline.frame_intake import RateLimit

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
