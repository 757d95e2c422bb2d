"""Histograms of durations since the start, from which quantiles over any interval can be computed later."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

STAGE_BOUNDS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds for a stage: from composing a message to a network on a slow processor, densest where they decide the frame rate."""

AGE_BOUNDS_S = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
"""Upper bounds for the age of a pose: from one frame to far too old."""


class Buckets(msgspec.Struct, frozen=True):
    """A histogram at one moment.

    Attributes:
        bounds_s: upper bounds in seconds, inclusive, rising; the last bucket has none.
        counts: observations in each bucket (not cumulative), one more than bounds.
        sum_s: sum of all observations.
    """

    bounds_s: Sequence[float]
    counts: tuple[int, ...]
    sum_s: float


class Histogram:
    """A counter of observations in fixed buckets; the caller holds the lock."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        if seconds > 0:  # a camera's clock that runs ahead causes negative ages, and a falling sum would look like a restart
            self._sum_s += seconds

    def buckets(self) -> Buckets:
        """Return the counts so far."""
        return Buckets(self._bounds_s, tuple(self._counts), self._sum_s)
