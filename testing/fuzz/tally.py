"""Outcomes of many inputs."""

from collections import Counter
from dataclasses import dataclass, field

GOOD = ("accepted", "refused", "passed over")
_KEPT = 30


@dataclass
class Tally:
    """Inputs by outcome, with the first bad ones.

    Outcomes are `accepted`, `refused` (in a sentence), `passed over` (gets no reply), `wrong` (any other exception or
    text), `crash` and `hang`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, outcome: str, detail: str = "") -> None:
        """Count one input."""
        self.counts[outcome] += 1
        if outcome not in GOOD and len(self.bad) < _KEPT:
            self.bad.append(f"{outcome}: {detail}")

    @property
    def total(self) -> int:
        """Number of inputs."""
        return sum(self.counts.values())
