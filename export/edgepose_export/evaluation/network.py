"""A torch network as a function from picture to people, for measurements during training."""

import numpy as np
import torch
from numpy.typing import NDArray

from edgepose.config.schema import PoseConfig
from edgepose.model.file import STRIDE_PX
from edgepose.person import Candidates, Person
from edgepose.pose.decode import decode
from edgepose.pose.letterbox import Letterbox
from edgepose_export.evaluation.predictor import SCORE_THRESHOLD
from edgepose_export.network.pose_network import PoseGraph, PoseNetwork


class NetworkPredictor:
    """A `PoseNetwork` in float32, run through the runtime's letterbox, decoder and suppression.

    Args:
        network: in evaluation mode.
        input_size: long side of the input in pixels; the short side is rounded up to a multiple of 32.
    """

    def __init__(self, network: PoseNetwork, input_size: int) -> None:
        self._network = PoseGraph(network.eval())
        self._input_size = input_size

    def __call__(self, image: NDArray[np.uint8]) -> list[Person]:
        """Find the people in a picture, uint8 (H, W, 3) RGB, down to a score of 0.02."""
        height, width = image.shape[:2]
        scale = self._input_size / max(height, width)
        sides = (max(STRIDE_PX, -(-round(side * scale) // STRIDE_PX) * STRIDE_PX) for side in (height, width))
        letterbox = Letterbox.fit(height, width, *sides)
        with torch.inference_mode():
            found = self._network(torch.from_numpy(letterbox.apply(image))[None])
        boxes, scores, keypoints = (value.numpy() for value in found)
        return decode(Candidates(boxes, scores, keypoints), 0, letterbox, PoseConfig(), score_threshold=SCORE_THRESHOLD)
