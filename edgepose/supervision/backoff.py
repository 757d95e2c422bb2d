"""How long to wait before trying again."""

import random
from collections.abc import Callable


class FullJitterBackoff:
    """Waits drawn evenly between zero and a bound that doubles: many clients of one server then never return in step.

    The "full jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        initial_s: upper bound of the first wait, seconds.
        maximum_s: upper bound that the waits grow to, seconds.
        random: gives numbers from 0 to below 1.
    """

    def __init__(self, initial_s: float, maximum_s: float, random: Callable[[], float] = random.random) -> None:
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._random = random
        self._bound_s = min(initial_s, maximum_s)

    def next_s(self) -> float:
        """Return the next wait in seconds."""
        wait_s = self._random() * self._bound_s
        # Doubling what is capped, not a power of the attempts: no number grows for ever on a camera that is away for weeks.
        self._bound_s = min(self._bound_s * 2, self._maximum_s)
        return wait_s

    def reset(self) -> None:
        """Begin anew: to be called when frames flow again, not when a connection merely opened."""
        self._bound_s = min(self._initial_s, self._maximum_s)
