import numpy as np
import pytest
from numpy.typing import NDArray

from edgepose.engine.box_nms import box_nms


def greedy(boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> list[int]:
    """The textbook's loop, one box at a time."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        for other in kept:
            overlap = np.minimum(boxes[index, 2:], boxes[other, 2:]) - np.maximum(boxes[index, :2], boxes[other, :2])
            intersection = np.prod(np.maximum(overlap, 0))
            union = np.prod(boxes[index, 2:] - boxes[index, :2]) + np.prod(boxes[other, 2:] - boxes[other, :2]) - intersection
            if intersection > threshold * union:
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 300])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_blocks_keep_what_one_at_a_time_keeps(count: int, threshold: float) -> None:
    draw = np.random.default_rng(count)
    corner = draw.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corner, corner + draw.uniform(20, 60, (count, 2))), axis=1).astype(np.float32)
    scores = draw.uniform(0, 1, count).astype(np.float32)
    assert box_nms(boxes, scores, threshold, 1000).tolist() == greedy(boxes, scores, threshold)
    assert box_nms(boxes, scores, threshold, 5).tolist() == greedy(boxes, scores, threshold)[:5]


def test_boxes_without_area_are_all_different() -> None:
    assert box_nms(np.zeros((3, 4), np.float32), np.array([0.2, 0.9, 0.5], np.float32), 0.7, 10).tolist() == [1, 2, 0]
