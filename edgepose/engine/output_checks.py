"""Checks of what a network computed: a broken network must not look like an image without people.

All outputs are checked before candidates are selected, because a comparison with a number that is not finite drops it silently.
Each function that checks raises EngineError; `name` is that of the backend, for the sentence, and outputs may have any shape.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import EngineError

_SCORE_TOLERANCE = 0.02  # rounding of networks in half precision or INT8
_LARGEST_POSITION_PX = 1e6  # no image is this large
_LARGEST_SHARE = 1.5  # a position between 0 and 1, with some room outside of the image
_LEAST_SCORE = 0.1  # people and keypoints below may be padding, at any position
_BROKEN = "the network or the device is broken"


def check_finite(name: str, outputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that all numbers of all outputs are finite."""
    broken = [what for what, values in outputs.items() if not np.isfinite(values).all()]
    if broken:
        raise EngineError(f"{name} returned {' and '.join(broken)} that are not finite: {_BROKEN}")


def check_shares(name: str, outputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that scores and confidences are between 0 and 1."""
    for what, values in outputs.items():
        if values.size:
            lowest, highest = float(values.min()), float(values.max())
            if lowest < -_SCORE_TOLERANCE or highest > 1 + _SCORE_TOLERANCE:
                raise EngineError(f"{name} returned {what} from {lowest:.3g} to {highest:.3g}; expected 0 to 1: {_BROKEN}")


def check_positions(name: str, outputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that no position is far from every image."""
    for what, values in outputs.items():
        if values.size and max(float(values.max()), -float(values.min())) > _LARGEST_POSITION_PX:
            raise EngineError(f"{name} returned {what} from {values.min():.3g} to {values.max():.3g}; expected pixels: {_BROKEN}")


def clearly_sound(boxes: NDArray[np.float32], scores: NDArray[np.float32], keypoints: NDArray[np.float32]) -> bool:
    """Return whether all checks would pass, as one look at the extremes tells; False where that is not certain.

    Args:
        boxes: (N, K, 4), likewise `scores` (N, K) and `keypoints` (N, K, 17, 3).
    """
    if not scores.size:
        return False
    rows = keypoints.reshape(-1, 3)
    lowest, highest = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()  # NaN is both
    least, most = float(scores.min()), float(scores.max())
    shares = min(least, lowest[2]) >= -_SCORE_TOLERANCE and max(most, highest[2]) <= 1 + _SCORE_TOLERANCE
    if not (shares and least <= most and lowest[2] <= highest[2]):
        return False
    low, high = min(float(boxes.min()), *lowest[:2]), max(float(boxes.max()), *highest[:2])
    if not (low >= -_LARGEST_POSITION_PX and high <= _LARGEST_POSITION_PX and not math.isnan(sum(lowest) + low)):
        return False
    if most < _LEAST_SCORE:
        return True
    best = int(scores.argmax())
    box, pose = boxes.reshape(-1, 4)[best], keypoints.reshape(-1, *keypoints.shape[2:])[best]
    posed = float(pose[:, 2].max()) >= _LEAST_SCORE
    return posed and float(box.max()) > _LARGEST_SHARE and float(pose[:, :2].max()) > _LARGEST_SHARE


def check_people(name: str, boxes: NDArray[np.float32], scores: NDArray[np.float32], keypoints: NDArray[np.float32]) -> None:
    """Check that the positions of people are in pixels: boxes (..., 4), scores (...), keypoints (..., 17, 3)."""
    boxes, keypoints = boxes[scores >= _LEAST_SCORE], keypoints[scores >= _LEAST_SCORE]
    posed = (keypoints[..., 2] >= _LEAST_SCORE).any(axis=-1)
    check_pixels(name, {"boxes": boxes, "keypoints": keypoints[posed][..., :2]})


def check_pixels(name: str, outputs: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that the positions of people, or of all places of an image, are in pixels and not in shares of the input's sides."""
    for what, values in outputs.items():
        if values.size and float(values.min()) > -_LARGEST_SHARE and float(values.max()) <= _LARGEST_SHARE:
            found = f"{what} from {values.min():.3g} to {values.max():.3g}"
            raise EngineError(f"{name} returned {found}; expected pixels of the input, not shares of its sides")
