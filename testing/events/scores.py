"""Precision and recall of events."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from edgepose.event import EventKind
from testing.events.sequences import Sequence

LYING_SEEN_S = 2.0
"""A network that saw the figure lie for less gave no evidence of a fall."""


@dataclass
class Score:
    """Counts of one kind of event."""

    right: int = 0
    wrong: int = 0
    missed: int = 0

    @property
    def precision(self) -> float:
        """Share of published events that are true; 1 where none was published."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        """Share of true events that were published; 1 where there was none."""
        return self.right / (self.right + self.missed) if self.right + self.missed else 1.0


def score(sequences: Iterable[Sequence]) -> dict[str, Score]:
    """Return counts by kind: of each sequence the first event that is not too early is right, all others are wrong."""
    scores = {kind: Score() for kind in get_args(EventKind)}
    for sequence in sequences:
        for kind, counts in scores.items():
            times = [t for t, event in sequence.said if event.kind == kind]
            start = sequence.expected.get(kind)
            right = start is not None and any(t >= start for t in times)
            counts.right += right
            counts.missed += start is not None and not right
            counts.wrong += 0 if kind in sequence.action.allowed else len(times) - right
    return scores


def lying_was_seen(sequence: Sequence) -> bool:
    """Return whether the network saw the figure lie for long enough, or it never lay."""
    return "fallen" not in sequence.expected or sequence.lying_seen_s >= LYING_SEEN_S
