"""Resizing: the exact way gives the same bytes on each processor (`make arm` runs this test on ARM)."""

import hashlib

import numpy as np
import pytest

from edgepose.pose.resize import resize


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((218, 164), (128, 96), "06b7216de58713f6"),
        ((90, 68), (128, 96), "9feb5452fd129765"),
        ((409, 307), (128, 96), "5443fe2b87ec6160"),
    ],
    ids=["a little smaller", "larger", "far smaller"],
)
def test_exact_resizing_gives_the_same_bytes_on_each_processor(source: tuple[int, int], target: tuple[int, int], expected: str) -> None:
    y, x = np.indices(source)
    image = np.stack([(x * x + 7 * y) % 256, (3 * x + y * y) % 256, (x * y) % 256], -1).astype(np.uint8)
    out = np.empty((*target, 3), np.uint8)
    resize(image, out, exact=True)
    assert hashlib.sha256(out.tobytes()).hexdigest()[:16] == expected


def test_the_fast_way_is_off_by_one_gray_level_at_most() -> None:
    image = np.random.default_rng(3).integers(0, 256, (218, 164, 3), np.uint8)
    fast, exact = np.empty((128, 96, 3), np.uint8), np.empty((128, 96, 3), np.uint8)
    resize(image, fast)
    resize(image, exact, exact=True)
    assert np.abs(fast.astype(int) - exact).max() <= 1
