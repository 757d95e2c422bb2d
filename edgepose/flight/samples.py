"""Samples of one quantity in the order of their times, however they arrive."""

from bisect import bisect_left
from typing import Generic, NamedTuple, TypeVar

_LIMIT = 512  # ten seconds at 50 per second
_SAME_NS = 500_000  # the clock of a vehicle counts milliseconds

T = TypeVar("T")


class Sample(NamedTuple, Generic[T]):
    """A value and its time on the monotonic clock."""

    time_ns: int
    value: T


class Samples(Generic[T]):
    """The newest samples of one quantity; the oldest is forgotten when there are too many."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._times_ns: list[int] = []
        self._values: list[T] = []

    def __len__(self) -> int:
        return len(self._times_ns)

    def add(self, time_ns: int, value: T) -> bool:
        """Add a sample in its place; return False where one of that millisecond is known."""
        index = bisect_left(self._times_ns, time_ns)
        if any(abs(self._times_ns[near] - time_ns) < _SAME_NS for near in (index - 1, index) if 0 <= near < len(self._times_ns)):
            return False
        self._times_ns.insert(index, time_ns)
        self._values.insert(index, value)
        if len(self._times_ns) > self._limit:
            del self._times_ns[0], self._values[0]
        return True

    def clear(self) -> None:
        """Forget all samples."""
        self._times_ns, self._values = [], []

    def around(self, time_ns: int) -> tuple[Sample[T] | None, Sample[T] | None]:
        """Return the last sample up to a time and the first one after it."""
        index = bisect_left(self._times_ns, time_ns + 1)
        before = Sample(self._times_ns[index - 1], self._values[index - 1]) if index else None
        after = Sample(self._times_ns[index], self._values[index]) if index < len(self._times_ns) else None
        return before, after

    def newest(self) -> Sample[T] | None:
        """Return the sample of the latest time."""
        return Sample(self._times_ns[-1], self._values[-1]) if self._times_ns else None
