"""Calibrates the score of a network to the probability that a detection matches a person (OKS >= 0.5).

A raw score (root of the center score x mean keypoint confidence) ranks well, but 0.15 of one network can be as reliable as 0.5 of
another; an operator's threshold must not depend on that. The method is Platt scaling on the logit of the raw score: J. Platt,
"Probabilistic Outputs for Support Vector Machines", 1999. It is monotonic, so AP does not change.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from edgepose.errors import ConfigError
from edgepose.pose.refine.regions import compare_poses, merge_refined, product_logit, refined_keypoints
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import MatchedDetections, match_detections
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.evaluation.predictor import ModelPredictor
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.refiner import RefinerGraph, RefinerNetwork

_FEWEST_DETECTIONS = 100


def fit_logistic(features: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return bias and weights (1 + N,) of `p = sigmoid(bias + weights . features)` with the greatest likelihood.

    Args:
        features: (D, N), N numbers of each detection.
        right: (D,), whether each detection matches a person.
    """
    columns = np.concatenate([np.ones((len(features), 1)), features], 1)
    sign = np.where(right, 1.0, -1.0)

    def negative_log_likelihood(weights: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -sign * (columns @ weights)).mean())

    start = np.zeros(columns.shape[1])
    start[1] = 1.0
    return np.asarray(minimize(negative_log_likelihood, start, method="BFGS").x, np.float64)


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logit of scores (D,), 0 to 1; finite at both ends."""
    clipped = np.clip(np.asarray(scores, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def calibrate_score(
    network: PoseNetwork, data: CocoPose, input_size: int, *, limit: int = 0, progress: Progress | None = None
) -> tuple[float, float]:
    """Fit the network's score on labeled training pictures, store slope and bias in the network, and return them.

    Raises:
        ConfigError: there are too few detections to fit, or a higher score is less likely to be right.
    """
    network.score_slope = torch.tensor(1.0)
    network.score_bias = torch.tensor(0.0)
    predict = NetworkPredictor(network, input_size)
    count = min(limit, len(data)) if limit else len(data)
    chosen = np.linspace(0, len(data) - 1, count).astype(int)
    predictions = []
    for done, index in enumerate(chosen, 1):
        predictions.append(predict(data.image(int(index))))
        if progress is not None:
            progress(done, count)
    matched = _enough(match_detections(predictions, [data[int(index)] for index in chosen]), count)
    bias, slope = (float(value) for value in fit_logistic(logit(matched.score)[:, None], matched.right))
    if slope <= 0:
        raise ConfigError(f"the score of this network does not rank its detections (fitted slope {slope:.2f}); expected a trained network")
    network.score_slope = torch.tensor(slope)
    network.score_bias = torch.tensor(bias)
    return slope, bias


def calibrate_refiner(
    network: RefinerNetwork,
    first: Path,
    data: CocoPose,
    *,
    limit: int = 0,
    progress: Progress | None = None,
) -> tuple[float, ...]:
    """Fit a refiner's score on the product of the first score and its confidence, and on its agreement with the box; store it.

    Args:
        network: the refiner.
        first: ONNX file of the pose network whose people it refines.
        data: labeled training pictures.
        limit: number of pictures, evenly chosen; 0 is all.
        progress: called after each picture.

    Returns:
        The bias, and the weights of the logit of score times confidence and of the agreement.

    Raises:
        ConfigError: there are too few detections to fit.
        ModelError: `first` is not a pose network.
    """
    deployed = RefinerGraph(network.eval())

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(deployed(torch.from_numpy(crops)).numpy(), np.float32)

    crop = (network.spec.crop_height, network.spec.crop_width)
    unchanged = (0.0, 1.0, 0.0)
    count = min(limit, len(data)) if limit else len(data)
    chosen = [int(index) for index in np.linspace(0, len(data) - 1, count)]
    predictions, features = [], [np.zeros((0, 2))]
    with ModelPredictor(first) as predict:
        for done, index in enumerate(chosen, 1):
            image = data.image(index)
            people = predict(image)
            if people:
                keypoints = refined_keypoints(image, people, network.spec.crop_margin, crop, run)
                _, agreements, confidences = compare_poses(people, keypoints, image.shape[1], image.shape[0])
                scores = np.array([person.score for person in people])
                features.append(np.stack([product_logit(scores, confidences), agreements], 1))
                people = [result.person for result in merge_refined(people, keypoints, unchanged, image.shape[1], image.shape[0])]
            predictions.append(people)
            if progress is not None:
                progress(done, count)
    matched = _enough(match_detections(predictions, [data[index] for index in chosen]), count)
    weights = fit_logistic(np.concatenate(features)[matched.index], matched.right)
    network.score_weights = torch.from_numpy(weights).float()
    return tuple(float(value) for value in weights)


def _enough(matched: MatchedDetections, pictures: int) -> MatchedDetections:
    if len(matched.score) < _FEWEST_DETECTIONS:
        raise ConfigError(
            f"{pictures} pictures gave {len(matched.score)} detections; expected at least {_FEWEST_DETECTIONS} to calibrate the score"
        )
    return matched
