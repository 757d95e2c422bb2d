"""Durations counted by how long they were, since the start: what quantiles over any time can be worked out from afterwards."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

STAGE_BOUNDS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.2, 0.5, 1.0, 2.0)
"""Upper bounds for a stage: from drawing up a message to a network on a slow processor, closest where frame rates are decided."""

AGE_BOUNDS_S = (0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)
"""Upper bounds for the age of a pose: from one frame to what nobody wants any more."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram at one moment.

    Attributes:
        bounds_s: upper bounds in seconds, inclusive, rising; one bucket more than bounds has none.
        counts: observations in each bucket (not cumulative), one more than bounds.
        sum_s: sum of all observations.
    """

    bounds_s: Sequence[float]
    counts: tuple[int, ...]
    sum_s: float


class Histogram:
    """Counts observations in fixed buckets; the caller holds the lock."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        if seconds > 0:  # a camera's clock that runs ahead gives negative ages, and a sum that falls would read as a restart
            self._sum_s += seconds

    def buckets(self) -> Buckets:
        """What was counted so far."""
        return Buckets(self._bounds_s, tuple(self._counts), self._sum_s)
