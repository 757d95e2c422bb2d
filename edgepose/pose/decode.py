"""Decoding: from the candidates of the pose network to the people in a frame."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import PoseConfig
from edgepose.person import Candidates, Person
from edgepose.pose.boxes import box_area
from edgepose.pose.clip import clip_keypoints, clip_points
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.suppress import pose_nms

_MINIMUM_AREA_PX = 1.0  # square pixels
_MAXIMUM_POSITION_PX = 1e6  # no frame is this large: such a candidate is a numerical error


def decode(
    candidates: Candidates,
    index_in_batch: int,
    letterbox: Letterbox,
    config: PoseConfig,
    *,
    score_threshold: float | None = None,
    over_limit: Callable[[int], None] | None = None,
) -> list[Person]:
    """Return the people in one frame of a batch, in source pixels, by falling score.

    Boxes are clipped to the frame. Candidates without area in the frame are dropped, as are candidates with numbers that are not finite
    or absurdly large. A keypoint clearly outside the frame is moved to its edge and gets confidence 0.

    Args:
        candidates: in pixels of the letterboxed input.
        index_in_batch: index of the frame.
        letterbox: layout of the frame in the input.
        config: thresholds and maximum number of people.
        score_threshold: replaces `config.score_threshold`; the tracker needs people down to `track.low_score_threshold`.
        over_limit: called with the number of people of at least `config.score_threshold` beyond the maximum, where there are any.
    """
    threshold = config.score_threshold if score_threshold is None else score_threshold
    boxes, keypoints, scores = _in_source(candidates, index_in_batch, letterbox, threshold)
    kept = pose_nms(boxes, keypoints, scores, config.nms_oks, config.nms_iou)
    if over_limit is not None and len(kept) > config.maximum_people:
        more = int((scores[kept[config.maximum_people :]] >= config.score_threshold).sum())
        if more:
            over_limit(more)
    numbers, values = kept[: config.maximum_people].tolist(), scores.tolist()
    return [Person(boxes[k], min(values[k], 1.0), keypoints[k]) for k in numbers]


_NONE = np.zeros(0, np.float32)


def _in_source(
    candidates: Candidates, index_in_batch: int, letterbox: Letterbox, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return boxes (K, 4), keypoints (K, 17, 3) and scores (K,) of the valid candidates of at least a score, in source pixels."""
    chosen = _at_least(candidates.scores[index_in_batch], threshold)
    if chosen is None:
        return _NONE.reshape(0, 4), _NONE.reshape(0, 17, 3), _NONE
    scores = candidates.scores[index_in_batch][chosen]
    confidences = candidates.keypoints[index_in_batch, ..., 2][chosen]
    points = np.concatenate(  # (K, 19, 2), mapped together
        (candidates.boxes[index_in_batch][chosen].reshape(-1, 2, 2), candidates.keypoints[index_in_batch, ..., :2][chosen]), axis=1
    )
    # First all together: a number that is not finite makes the comparison False, or the sum not finite.
    if not (float(np.abs(points).max()) < _MAXIMUM_POSITION_PX and math.isfinite(float(confidences.sum()) + float(scores.sum()))):
        valid = (np.abs(points) < _MAXIMUM_POSITION_PX).all(axis=(1, 2)) & np.isfinite(confidences).all(axis=1) & np.isfinite(scores)
        scores, points, confidences = scores[valid], points[valid], confidences[valid]

    # NMS works in source pixels: pixels are square in both, so the similarities are the same as in input pixels.
    points = letterbox.to_source(points)
    clipped = clip_points(points, letterbox.source_width, letterbox.source_height)
    boxes = clipped[:, :2].reshape(-1, 4).copy()  # people keep them, and nothing else of `clipped`
    area = box_area(boxes)
    keypoints = clip_keypoints(points[:, 2:], clipped[:, 2:], confidences, np.sqrt(np.maximum(area, np.float32(1))))
    if not len(area) or float(area.min()) < _MINIMUM_AREA_PX:
        visible = area >= _MINIMUM_AREA_PX
        return boxes[visible], keypoints[visible], scores[visible]
    return boxes, keypoints, scores


def _at_least(scores: NDArray[np.float32], threshold: float) -> slice | NDArray[np.intp] | None:
    """Return which scores are at least the threshold; None where no one is."""
    selected = np.flatnonzero(scores >= threshold)  # False for NaN
    if not selected.size:
        return None
    # The usual case, since scores fall: the first ones, without a copy.
    return slice(selected.size) if int(selected[-1]) < selected.size else selected
