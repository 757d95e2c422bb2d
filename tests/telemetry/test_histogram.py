import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.telemetry.histogram import AGE_BOUNDS_S, STAGE_BOUNDS_S, Histogram
from edgepose.telemetry.metrics import STAGES, Metrics


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 1.0, 1.5):
        histogram.observe(seconds)
    buckets = histogram.buckets()
    assert buckets.counts == (2, 2, 1)
    assert buckets.sum_s == pytest.approx(3.15)


@given(st.lists(st.floats(-1, 100)))
def test_everything_is_counted_once_and_the_sum_never_falls(durations: list[float]) -> None:
    histogram = Histogram(AGE_BOUNDS_S)
    sums = [0.0]
    for seconds in durations:
        histogram.observe(seconds)
        sums.append(histogram.buckets().sum_s)
    assert sum(histogram.buckets().counts) == len(durations)
    assert sums == sorted(sums)


def test_counts_stay_when_samples_are_drained() -> None:
    metrics = Metrics(samples=1)
    for _ in range(3):
        metrics.took("engine", 0.0125)
        metrics.published("front", 1, age_s=0.045)
        metrics.stats(drain=True)
    stages, ages = metrics.stats().stages, metrics.stats().ages
    assert set(stages) == set(STAGES)
    assert stages["engine"].counts[STAGE_BOUNDS_S.index(0.015)] == sum(stages["engine"].counts) == 3
    assert ages["front"].counts[AGE_BOUNDS_S.index(0.06)] == 3
    assert stages["engine"].sum_s == pytest.approx(0.0375)
