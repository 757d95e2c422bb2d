"""Turns the raw score of a network into a probability: how likely is it that this find is somebody (OKS >= 0.5)?

A raw score (root of the center x mean keypoint confidence) ranks well, but 0.15 of one network is as sure as 0.5 of another; an
operator's threshold must not depend on that. Platt scaling: J. Platt, "Probabilistic Outputs for Support Vector
Machines", 1999, on the logit of the raw score. It is monotonic, so AP stays what it was.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from edgepose.errors import ConfigError
from edgepose.pose.regions import evidence, merge, refined_keypoints
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import Judged, ModelPredictor, judge
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.network.candidates import CandidateDecoder, PersonDecoder
from edgepose_export.network.model import DeployedRefiner, GhostPose

_FEWEST_FINDS = 100


def fit_logistic(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Bias and weights (1 + N,) of `p = sigmoid(bias + weights . features)` of greatest likelihood.

    Args:
        features: (F, N).
        right: (F,) whether each find is somebody.
    """
    columns = np.concatenate([np.ones((len(features), 1)), features], 1)
    sign = np.where(right, 1.0, -1.0)

    def surprise(weights: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -sign * (columns @ weights)).mean())

    start = np.zeros(columns.shape[1])
    start[1] = 1.0
    return np.asarray(minimize(surprise, start, method="BFGS").x, np.float64)


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Logit of scores (F,), 0 to 1; finite at both ends."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def calibrate_score(
    network: GhostPose, data: CocoPose, input_size: int, *, limit: int = 0, progress: Callable[[int, int], None] | None = None
) -> tuple[float, float]:
    """Fit the network's score on labeled training pictures and store slope and bias in it.

    Raises:
        ConfigError: too few finds to fit on, or a fit in which a higher score is less likely to be right.
    """
    decoder = network.decode
    assert isinstance(decoder, CandidateDecoder)
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
    judged = _enough(judge(predictions, [data[int(index)] for index in chosen]), count)
    bias, slope = (float(value) for value in fit_logistic(logit(judged.score)[:, None], judged.right))
    if slope <= 0:
        raise ConfigError(f"the score of this network is no ranking (fitted slope {slope:.2f}): expected a trained network")
    decoder.score_slope = torch.tensor(slope)
    decoder.score_bias = torch.tensor(bias)
    return slope, bias


def calibrate_refiner(
    network: GhostPose,
    first: Path,
    data: CocoPose,
    crop_side: int,
    *,
    limit: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, ...]:
    """Fit what a refiner makes of the first score, the agreement of both poses and its own confidence, and store it there.

    Args:
        network: the refiner.
        first: ONNX file of the network whose finds it looks at again.
        data: labeled training pictures.
        crop_side: px.
        limit: so many pictures, evenly chosen; 0 is all.
        progress: told after each picture.

    Raises:
        ConfigError: too few finds to fit on.
        ModelError: `first` is no pose network.
    """
    decoder = network.decode
    assert isinstance(decoder, PersonDecoder)
    deployed = DeployedRefiner(network.eval())

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(deployed(torch.from_numpy(crops)).numpy(), np.float32)

    unchanged = (0.0, 1.0, 0.0, 0.0)
    count = min(limit, len(data)) if limit else len(data)
    chosen = [int(index) for index in np.linspace(0, len(data) - 1, count)]
    predictions, features = [], [np.zeros((0, 3))]
    with ModelPredictor(first) as predict:
        for done, index in enumerate(chosen, 1):
            image = data.image(index)
            people = predict(image)
            if people:
                keypoints = refined_keypoints(image, people, network.spec.crop_margin, crop_side, run)
                _, similar, confidences = evidence(people, keypoints, image.shape[1], image.shape[0])
                features.append(np.stack([logit(np.array([person.score for person in people])), similar, confidences], 1))
                people = [look.person for look in merge(people, keypoints, unchanged, image.shape[1], image.shape[0])]
            predictions.append(people)
            if progress is not None:
                progress(done, count)
    judged = _enough(judge(predictions, [data[index] for index in chosen]), count)
    weights = fit_logistic(np.concatenate(features)[judged.index], judged.right)
    decoder.score_weights = torch.from_numpy(weights).float()
    return tuple(float(value) for value in weights)


def _enough(judged: Judged, pictures: int) -> Judged:
    if len(judged.score) < _FEWEST_FINDS:
        raise ConfigError(f"{pictures} pictures gave {len(judged.score)} finds; at least {_FEWEST_FINDS} are needed to calibrate the score")
    return judged
