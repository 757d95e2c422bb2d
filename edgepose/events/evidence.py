"""When something is looked at, and what an analyser says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepose.event import EventKind

S = 1_000_000_000
"""Nanoseconds a second."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that an analyser of one person is sure of.

    Attributes:
        kind: what.
        since: beginning of the evidence, in the nanoseconds that the analyser was given.
        score: 0 to 1, how clearly.
        evidence: what was measured, by name with its unit.
        zone: name of the zone, where there is one.
    """

    kind: EventKind
    since: int
    score: float
    evidence: Mapping[str, float] = field(default_factory=dict)
    zone: str | None = None


def clarity(value: float, threshold: float, certain: float) -> float:
    """0.5 at the threshold, 1 from `certain` on (which may lie on either side of it), in a straight line between."""
    return 0.5 + 0.5 * min(1.0, max(0.0, (value - threshold) / (certain - threshold)))
