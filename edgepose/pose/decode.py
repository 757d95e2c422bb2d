"""From the engine's candidates to the people in a picture."""

import numpy as np

from edgepose.config.schema import PoseConfig
from edgepose.person import Candidates, Person
from edgepose.pose.boxes import body_size, box_area
from edgepose.pose.edge import believed_keypoints, inside_picture
from edgepose.pose.letterbox import Letterbox
from edgepose.pose.suppress import suppress

_SMALLEST_AREA_PX = 1.0
_FARTHEST_PX = 1e6  # no picture is so large: such a candidate is a fault of the arithmetic


def decode(
    candidates: Candidates,
    index_in_batch: int,
    letterbox: Letterbox,
    config: PoseConfig,
    *,
    score_threshold: float | None = None,
) -> list[Person]:
    """Return the people in one picture of a batch, by falling score, in source pixels.

    Boxes are clipped to the picture and people without area in it are dropped, as are candidates whose numbers are not finite or absurd.
    A keypoint that lies clearly outside of the picture is moved to its edge and gets confidence 0: no camera saw it.

    Args:
        candidates: in the pixels of the letterboxed input.
        score_threshold: overrides `config.score_threshold`; a tracker wants people down to `track.low_score_threshold`.
    """
    threshold = config.score_threshold if score_threshold is None else score_threshold
    scores = candidates.scores[index_in_batch]
    strong = np.flatnonzero(scores >= threshold)  # not NaN
    if not strong.size:
        return []
    scores = scores[strong]
    keypoints = candidates.keypoints[index_in_batch, strong]
    corners = candidates.boxes[index_in_batch, strong].reshape(-1, 2, 2)
    points = np.concatenate((corners, keypoints[..., :2]), axis=1)  # (K, 19, 2): all that has a place travels together
    confidences = keypoints[..., 2]
    near = (np.abs(points) < _FARTHEST_PX).all(axis=(1, 2)) & np.isfinite(confidences).all(axis=1) & np.isfinite(scores)  # not NaN either
    if not near.all():
        scores, points, confidences = scores[near], points[near], confidences[near]

    # To source pixels before suppression: input pixels are square there too, so the similarity is the same.
    points = letterbox.to_source(points)
    inside = inside_picture(points, letterbox.source_width, letterbox.source_height)
    boxes = inside[:, :2].reshape(-1, 4)
    keypoints = believed_keypoints(points[:, 2:], inside[:, 2:], confidences, body_size(boxes))

    real = np.flatnonzero(box_area(boxes) >= _SMALLEST_AREA_PX)
    kept = real[suppress(boxes[real], keypoints[real], scores[real], config.nms_oks, config.nms_iou)]
    return [Person(boxes[k], min(float(scores[k]), 1.0), keypoints[k]) for k in kept[: config.maximum_people]]
