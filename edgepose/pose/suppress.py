"""How alike two people are, and dropping the weaker of two that are the same.

OKS is COCO's object keypoint similarity (https://cocodataset.org/#keypoints-eval): the mean over keypoints of
exp(-d^2 / (2 s^2 k^2)), k = 2 sigma, where s^2 is the area of the person. Only boxes are known here, and a person covers
about 0.53 of the box, as in COCO's own results evaluation.
"""

import numpy as np
from numpy.typing import NDArray

from edgepose.person import OKS_SIGMAS
from edgepose.pose.boxes import box_area, iou

BODY_SHARE_OF_BOX = 0.53
"""Area of a person as a share of the area of the box."""

_BLOCK = 32
_DOUBLE_VARIANCES = 2.0 * (2.0 * np.array(OKS_SIGMAS, np.float32)) ** 2  # (17,): 2 k^2


def oks(
    keypoints: NDArray[np.float32],
    others: NDArray[np.float32],
    area: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Object keypoint similarity of two sets of poses, 0 to 1, broadcast against each other.

    Args:
        keypoints, others: (..., 17, 2 or more), x y first, in pixels.
        area: (...) area of the boxes in square pixels.
        weights: (..., 17), not negative; how much each keypoint counts. Where all are 0 the similarity is 0.
    """
    difference = keypoints[..., :2] - others[..., :2]
    squared = difference[..., 0] ** 2 + difference[..., 1] ** 2  # (..., 17)
    body = np.maximum(area * np.float32(BODY_SHARE_OF_BOX), np.float32(1e-6))
    likeness = np.exp(-squared / (body[..., None] * _DOUBLE_VARIANCES))
    total = weights.sum(axis=-1)
    return np.asarray((likeness * weights).sum(axis=-1) / np.maximum(total, np.float32(1e-6)), np.float32)


def suppress(
    boxes: NDArray[np.float32],
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    oks_threshold: float,
    iou_threshold: float,
) -> NDArray[np.intp]:
    """Return the indices of the people that stay, by falling score.

    A person goes who is more like a stronger one than `oks_threshold` (poses, each keypoint counting by the stronger
    person's confidence) or overlaps that one's box by more than `iou_threshold`. Two people close to one another share
    most of a box but not their poses, so the pose decides and the box threshold can be high.

    Args:
        boxes: (K, 4), x1 y1 x2 y2.
        keypoints: (K, 17, 3), x y confidence, in the same pixels.
        scores: (K,).
    """
    left = np.argsort(-scores, kind="stable")
    area = box_area(boxes)
    kept: list[int] = []
    # A table of the strongest few against all that are left: one pass for a usual frame, and for hundreds of candidates
    # most go in the first pass instead of being compared with one another.
    while left.size:
        strongest = left[:_BLOCK]
        rows = strongest[:, None]
        same = oks(keypoints[rows], keypoints[left], area[rows], keypoints[rows, :, 2]) > oks_threshold
        same |= iou(boxes[rows], boxes[left]) > iou_threshold
        different = ~same
        stays = np.ones(left.size, np.bool_)
        for index, candidate in enumerate(strongest.tolist()):
            if stays[index]:
                kept.append(candidate)
                stays &= different[index]
        left = left[_BLOCK:][stays[_BLOCK:]]
    return np.array(kept, np.intp)
