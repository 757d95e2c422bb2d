import numpy as np
import pytest

from edgepose_export.report.calibration import reliability


def test_a_coin_that_claims_a_half_is_calibrated() -> None:
    found = reliability(np.full(100, 0.5), np.arange(100) % 2 == 0)
    assert found["ECE"] == pytest.approx(0)
    assert found["bins"] == [{"count": 100, "claimed": 0.5, "right": 0.5}]


def test_the_error_is_the_mean_distance_weighted_by_counts() -> None:
    claimed = np.array([0.95] * 30 + [0.15] * 10)
    right = np.array([True] * 15 + [False] * 15 + [True] * 5 + [False] * 5)
    found = reliability(claimed, right)
    assert found["ECE"] == pytest.approx((30 * 0.45 + 10 * 0.35) / 40)
    assert [entry["count"] for entry in found["bins"]] == [10, 30]


def test_certainty_is_in_the_last_bin_and_nothing_has_no_error() -> None:
    assert reliability(np.array([1.0, 0.99]), np.array([True, True]))["bins"][0]["count"] == 2
    assert reliability(np.zeros(0), np.zeros(0, bool)) == {"count": 0, "ECE": None, "bins": []}
