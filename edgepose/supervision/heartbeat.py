"""Whether a loop still turns: a thread that is alive says nothing about its work."""

import time
from collections.abc import Callable, Mapping

Clock = Callable[[], float]
"""Monotonic seconds."""


class Heartbeat:
    """What a loop beats at every turn, and until when the next beat is due; written by one thread, read by any.

    Args:
        bound_s: a turn that takes longer has got stuck, unless the loop had asked for more.
    """

    def __init__(self, bound_s: float, clock: Clock = time.monotonic) -> None:
        self.bound_s = bound_s
        self._clock = clock
        self._turns = 0
        self._heard_turns = 0
        self._due_s: float | None = None
        self._patient = False

    def beat(self, within_s: float | None = None) -> None:
        """One turn more.

        Args:
            within_s: longest that the next turn may take where that is not the usual bound: opening a network, waiting on purpose.
        """
        self._patient = within_s is not None
        self._due_s = self._clock() + (self.bound_s if within_s is None else within_s)
        self._turns += 1

    def end(self) -> None:
        """The loop is over in order: nothing is due any more."""
        self._due_s = None

    def stuck(self, now_s: float) -> bool:
        """Whether a beat is overdue."""
        due_s = self._due_s
        return due_s is not None and now_s > due_s

    def progressed(self, now_s: float) -> bool:
        """Whether the loop has turned since `heard`, or had asked for time that is not over, or has nothing to do."""
        due_s = self._due_s
        return due_s is None or self._turns != self._heard_turns or (self._patient and now_s <= due_s)

    def heard(self) -> None:
        """The progress so far is taken note of: only further turns count from here."""
        self._heard_turns = self._turns


def all_progressed(heartbeats: Mapping[str, Heartbeat], now_s: float) -> bool:
    """Whether every loop has made progress since this last said yes."""
    if not all(heartbeat.progressed(now_s) for heartbeat in heartbeats.values()):
        return False
    for heartbeat in heartbeats.values():
        heartbeat.heard()
    return True
