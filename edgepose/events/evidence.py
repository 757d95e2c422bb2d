"""The result of an analyzer: evidence that an event has happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepose.event import Direction, EventKind


@dataclass(frozen=True, slots=True)
class Evidence:
    """Complete evidence for an event of one person.

    Attributes:
        kind: the event that the evidence is for.
        since_ns: beginning of the evidence, in observed time (see `edgepose.events.detector`).
        score: strength of the evidence, 0 to 1.
        measurements: measured quantities by name; each name carries its unit.
        zone: name of the zone, for events of zones.
        line, direction: name of the line and side on which the person ends, for `line_crossed`.
    """

    kind: EventKind
    since_ns: int
    score: float
    measurements: Mapping[str, float] = field(default_factory=dict)
    zone: str | None = None
    line: str | None = None
    direction: Direction | None = None


def strength(value: float, threshold: float, certain: float) -> float:
    """Return the strength of evidence: 0.5 at `threshold`, rising linearly to 1 at `certain`, which may be above or below the threshold."""
    return 0.5 + 0.5 * min(1.0, max(0.0, (value - threshold) / (certain - threshold)))
