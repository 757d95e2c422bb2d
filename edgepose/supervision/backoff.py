"""Backoff: how long to wait before the next attempt."""

import random
from collections.abc import Callable


class DoublingWait:
    """Waits that double, for something local that nobody else waits for; all moments are seconds on a monotonic clock.

    Args:
        initial_s: first wait, seconds.
        maximum_s: longest wait, seconds.
        settled_s: time without a fault after which the waits begin anew, seconds.
    """

    def __init__(self, initial_s: float, maximum_s: float, settled_s: float) -> None:
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._settled_s = settled_s
        self._wait_s = initial_s
        self._next_s = float("-inf")
        self._fault_s = float("-inf")

    def due(self, now_s: float) -> bool:
        """Return whether an attempt is due, at a fault; if so, the next one is due only after a wait twice as long as the last."""
        if now_s - self._fault_s > self._settled_s:
            self._wait_s = self._initial_s
        self._fault_s = now_s
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._wait_s
        self._wait_s = min(self._wait_s * 2, self._maximum_s)
        return True


class FullJitterBackoff:
    """Random waits between zero and a bound that doubles, so that many clients of one server do not return at the same time.

    The "full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        initial_s: upper bound of the first wait, seconds.
        maximum_s: upper bound that the waits grow to, seconds.
        random: returns numbers from 0 to below 1.
    """

    def __init__(self, initial_s: float, maximum_s: float, random: Callable[[], float] = random.random) -> None:
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._random = random
        self._bound_s = min(initial_s, maximum_s)

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        wait_s = self._random() * self._bound_s
        # The capped bound is doubled, instead of a power of the attempts: no number grows forever while a camera is away for weeks.
        self._bound_s = min(self._bound_s * 2, self._maximum_s)
        return wait_s

    def reset(self) -> None:
        """Start again with the first bound; to be called when frames flow again, not when a connection merely opened."""
        self._bound_s = min(self._initial_s, self._maximum_s)
