"""Ranges from histograms whose answers are known."""

import numpy as np
import pytest

from edgepose_export.quantization.ranges import BINS, METHODS, Method, TensorStatistics, choose_range, moving_average, scale_and_zero


def statistics(values: np.ndarray, averages: tuple[float, float] | None = None) -> TensorStatistics:
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, BINS, (low, high))
    return TensorStatistics(low, high, *(averages or (low, high)), counts)


NORMAL = np.random.default_rng(0).normal(0, 1, 200_000)
OUTLIERS = np.concatenate([NORMAL, [-40.0, 60.0]])
RELU6 = np.clip(np.random.default_rng(1).normal(2, 3, 100_000), 0, 6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    "values", [NORMAL, OUTLIERS, RELU6, NORMAL + 100, -RELU6, np.zeros(10)], ids=["normal", "outliers", "relu6", "far", "negative", "zeros"]
)
def test_a_range_holds_zero_and_stays_within_what_was_seen(method: Method, symmetric: bool, values: np.ndarray) -> None:
    low, high = choose_range(statistics(values), method, symmetric=symmetric)
    assert low <= 0 <= high
    assert low < high
    if symmetric:
        assert low == -high
    if values.any():
        assert high <= np.abs(values).max() + 1e-9
        assert low >= -np.abs(values).max() - 1e-9
    scale, zero = scale_and_zero(low, high, symmetric=symmetric)
    assert scale > 0
    assert zero == 0 if symmetric else 0 <= zero <= 255


@pytest.mark.parametrize(("method", "most"), [("percentile", 6), ("entropy", 10), ("mse", 50)])
def test_single_outliers_do_not_stretch_the_range(method: Method, most: float) -> None:
    _, high = choose_range(statistics(OUTLIERS), method, symmetric=False)
    assert 2 < high < most
    assert choose_range(statistics(OUTLIERS), "minmax", symmetric=False) == (-40, 60)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_relu6_has_zero_point_0_so_that_its_clip_folds_away(method: Method) -> None:
    low, high = choose_range(statistics(RELU6), method, symmetric=False)
    assert low == 0
    assert high == pytest.approx(6, rel=0.01)
    assert scale_and_zero(low, high, symmetric=False)[1] == 0


def test_mse_is_no_worse_than_minmax() -> None:
    def error(bounds: tuple[float, float]) -> float:
        scale, zero = scale_and_zero(*bounds, symmetric=False)
        back = (np.clip(np.round(OUTLIERS / scale) + zero, 0, 255) - zero) * scale
        return float(((OUTLIERS - back) ** 2).mean())

    assert error(choose_range(statistics(OUTLIERS), "mse", symmetric=False)) <= error(
        choose_range(statistics(OUTLIERS), "minmax", symmetric=False)
    )


def test_a_moving_average_begins_with_the_first_picture_and_moves_slowly() -> None:
    assert moving_average(None, 3.0) == 3.0
    assert moving_average(3.0, 5.0) == pytest.approx(3.1)
    assert choose_range(statistics(NORMAL, (-2.0, 3.0)), "moving-average", symmetric=False) == (-2, 3)
