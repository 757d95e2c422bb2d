import numpy as np
import pytest

from edgepose.diagnostics.bench_compare import change_of

_NOISE = 0.02  # of one round, as on a machine with other work


def rounds(generator: np.random.Generator, middle: float, count: int) -> list[float]:
    return list(middle * np.exp(generator.normal(0, _NOISE, count)))


@pytest.mark.parametrize("count", [12, 30])
def test_a_slowdown_of_five_percent_is_found_and_equal_runs_are_not_told_apart(count: int) -> None:
    found = told = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        before = rounds(generator, 0.9, count)
        slower = change_of("row", "core time", before, rounds(generator, 0.9 * 0.95, count))
        equal = change_of("row", "core time", before, rounds(generator, 0.9, count))
        found += slower.significant and slower.change < 0
        told += equal.significant
        assert slower.low <= slower.change <= slower.high
    assert found >= 95
    assert told <= 3


def test_of_few_rounds_nothing_is_told() -> None:
    assert not change_of("row", "core time", [0.9, 0.9], [0.5, 0.5]).significant
    assert change_of("row", "core time", [0.9, 0.9, 0.9], [0.5, 0.5, 0.5]).significant


def test_a_change_is_a_share_of_the_value_before() -> None:
    change = change_of("row", "core time", [2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    assert (change.before, change.after) == (2.0, 3.0)
    assert (change.change, change.low, change.high) == pytest.approx((0.5, 0.5, 0.5))
