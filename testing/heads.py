"""Whether heads are hidden in a picture, by its twin where they are not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person
from edgepose.pixels import head_area

_BLOCK_PX = 16  # of a JPEG: what is hidden changes its neighbors


def check_hidden_heads(clear: NDArray[np.uint8], hidden: NDArray[np.uint8], people: Sequence[Mapping[str, Any]]) -> int:
    """Fail where the head of one of these people is alike in both pictures (H, W, 3); return the largest difference elsewhere.

    Args:
        people: as messages have them.
    """
    difference = np.abs(clear.astype(int) - hidden.astype(int)).max(axis=2)
    assert people
    for one in people:
        left, top, width, height = one["box"]
        box = np.array((left, top, left + width, top + height), np.float32)
        area = head_area(Person(box, one["score"], np.array(one["keypoints"], np.float32)), 0.2)
        left, top, right, bottom = (max(0, round(value)) for value in area)
        assert difference[top:bottom, left:right].mean() > 5
        difference[max(0, top - _BLOCK_PX) : bottom + _BLOCK_PX, max(0, left - _BLOCK_PX) : right + _BLOCK_PX] = 0
    return int(difference.max())
