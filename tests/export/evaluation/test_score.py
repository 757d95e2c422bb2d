"""Score calibration: a fit that finds known parameters, and a network whose score becomes the share that is right."""

import numpy as np
import pytest

from edgepose_export.evaluation.score import fit_logistic, logit


@pytest.mark.parametrize(("slope", "bias"), [(1.0, 0.0), (1.6, 2.0), (0.7, -1.0)])
def test_the_fit_finds_the_slope_and_bias_that_made_the_finds(slope: float, bias: float) -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(0.02, 0.9, 20000)
    chance = 1 / (1 + np.exp(-(slope * np.log(raw / (1 - raw)) + bias)))
    found = fit_logistic(logit(raw)[:, None], rng.random(len(raw)) < chance)
    assert found == pytest.approx((bias, slope), abs=0.1)


def test_the_fit_tells_features_apart() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(0, 1, (20000, 3))
    weights = np.array([-0.5, 0.8, 2.0, 0.0])
    chance = 1 / (1 + np.exp(-(weights[0] + features @ weights[1:])))
    assert fit_logistic(features, rng.random(len(features)) < chance) == pytest.approx(weights, abs=0.1)


def test_a_score_of_zero_or_one_does_no_harm() -> None:
    raw, right = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), np.array([False, False, True, False, True, True])
    assert np.isfinite(fit_logistic(logit(raw)[:, None], right)).all()
