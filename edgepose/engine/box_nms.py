"""Suppression of anchors: many anchors of a dense network answer to one person."""

import numpy as np
from numpy.typing import NDArray

_BLOCK_SIZE = 64


def box_nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou_threshold: float, limit: int) -> NDArray[np.intp]:
    """Return the indices of the boxes that non-maximum suppression keeps, by falling score.

    A weaker box never removes a stronger one, so a lower threshold of the scores changes nothing above it.

    Args:
        boxes: (A, 4), x1 y1 x2 y2.
        scores: (A,).
        iou_threshold: maximum IoU of two boxes that are kept.
        limit: maximum number of boxes that are kept.
    """
    remaining = np.argsort(-scores, kind="stable")
    left, top, right, bottom = np.ascontiguousarray(boxes.T)
    areas = np.maximum(right - left, np.float32(0)) * np.maximum(bottom - top, np.float32(0))
    kept: list[int] = []
    # The strongest boxes against all that remain, one block at a time: of thousands, the first block drops most.
    while remaining.size and len(kept) < limit:
        block = remaining[:_BLOCK_SIZE]
        width = np.minimum(right[block, None], right[remaining]) - np.maximum(left[block, None], left[remaining])  # (block, remaining)
        height = np.minimum(bottom[block, None], bottom[remaining]) - np.maximum(top[block, None], top[remaining])
        intersection = np.maximum(width, np.float32(0)) * np.maximum(height, np.float32(0))
        same = intersection > np.float32(iou_threshold) * (areas[block, None] + areas[None, remaining] - intersection)
        stays = np.ones(remaining.size, np.bool_)
        for index, box in enumerate(block.tolist()):
            if stays[index]:
                kept.append(box)
                stays &= ~same[index]
        remaining = remaining[_BLOCK_SIZE:][stays[_BLOCK_SIZE:]]
    return np.array(kept[:limit], np.intp)
