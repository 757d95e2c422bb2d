"""Heartbeats of work loops: a thread that is alive may still hang."""

import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]
"""Monotonic seconds."""


class Heartbeat:
    """The beats of one loop, and when the next one is due; written by one thread, read by any.

    Args:
        bound_s: a turn that takes longer hangs, unless the loop has requested more time.
    """

    def __init__(self, bound_s: float, clock: Clock = time.monotonic) -> None:
        self.bound_s = bound_s
        self._clock = clock
        self._turns = 0
        self._acknowledged_turns = 0
        self._due_s: float | None = None
        self._patient = False

    def beat(self, within_s: float | None = None) -> None:
        """Count one more turn.

        Args:
            within_s: how long the next turn may take where the usual bound does not fit: opening a network, waiting on purpose.
        """
        self._patient = within_s is not None
        self._due_s = self._clock() + (self.bound_s if within_s is None else within_s)
        self._turns += 1

    def end(self) -> None:
        """Note that the loop has ended in order: no beat is due any more."""
        self._due_s = None

    def stuck(self, now_s: float) -> bool:
        """Return whether a beat is overdue."""
        due_s = self._due_s
        return due_s is not None and now_s > due_s

    def progressed(self, now_s: float) -> bool:
        """Return whether the loop has turned since `acknowledge`, or has requested time that is not over, or has nothing to do."""
        due_s = self._due_s
        return due_s is None or self._turns != self._acknowledged_turns or (self._patient and now_s <= due_s)

    def acknowledge(self) -> None:
        """Acknowledge the progress so far: from now on only further turns count."""
        self._acknowledged_turns = self._turns


def all_progressed(heartbeats: Mapping[str, Heartbeat], now_s: float) -> bool:
    """Return whether every loop has made progress since this last returned True."""
    if not all(heartbeat.progressed(now_s) for heartbeat in heartbeats.values()):
        return False
    for heartbeat in heartbeats.values():
        heartbeat.acknowledge()
    return True
