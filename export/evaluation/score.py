"""Turns the raw score of a network into a probability: how likely is it that this find is somebody (OKS >= 0.5)?

A raw score (centre x mean keypoint confidence) ranks well, but 0.15 of one network is as sure as 0.5 of another; an
operator's threshold must not depend on that. Platt scaling: J. Platt, "Probabilistic Outputs for Support Vector
Machines", 1999, on the logit of the raw score. It is monotonic, so AP stays what it was.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from edgepose.errors import ConfigError
from export.data.coco import CocoPose
from export.evaluation.coco import judge
from export.evaluation.network import NetworkPredictor
from export.network.model import GhostPose

_FEWEST_FINDS = 100


def fit_platt(raw: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and bias of `p = sigmoid(slope logit(raw) + bias)` of greatest likelihood.

    Args:
        raw: (F,) scores, 0 to 1.
        right: (F,) whether each find is somebody.
    """
    clipped = np.clip(raw, 1e-6, 1 - 1e-6)
    logit = np.log(clipped / (1 - clipped))
    sign = np.where(right, 1.0, -1.0)

    def surprise(parameters: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -sign * (parameters[0] * logit + parameters[1])).mean())

    slope, bias = minimize(surprise, np.array([1.0, 0.0]), method="BFGS").x
    return float(slope), float(bias)


def calibrate_score(
    network: GhostPose, data: CocoPose, input_size: int, *, limit: int = 0, progress: Callable[[int, int], None] | None = None
) -> tuple[float, float]:
    """Fit the network's score on labelled training pictures and store slope and bias in it.

    Raises:
        ConfigError: too few finds to fit on, or a fit in which a higher score is less likely to be right.
    """
    decoder = network.decode
    decoder.score_slope = torch.tensor(1.0)
    decoder.score_bias = torch.tensor(0.0)
    predict = NetworkPredictor(network, input_size)
    count = min(limit, len(data)) if limit else len(data)
    chosen = np.linspace(0, len(data) - 1, count).astype(int)
    predictions = []
    for done, index in enumerate(chosen, 1):
        predictions.append(predict(data.image(int(index))))
        if progress is not None:
            progress(done, count)
    raw, right = judge(predictions, [data[int(index)] for index in chosen])
    if len(raw) < _FEWEST_FINDS:
        raise ConfigError(f"{count} pictures gave {len(raw)} finds; at least {_FEWEST_FINDS} are needed to calibrate the score")
    slope, bias = fit_platt(raw, right)
    if slope <= 0:
        raise ConfigError(f"the score of this network is no ranking (fitted slope {slope:.2f}): expected a trained network")
    decoder.score_slope = torch.tensor(slope)
    decoder.score_bias = torch.tensor(bias)
    return slope, bias
