"""Hysteresis at the border of a zone or at a line: feet must be off it by more than their noise, and stay beyond it for some time."""

from dataclasses import dataclass

from edgepose.frame import NS_PER_S

BORDER_MARGIN = 0.05
"""Body sizes on either side of a border within which nothing is decided."""


@dataclass(slots=True)
class BorderSide:
    """The side of a border that a person is on, in observed time.

    Attributes:
        beyond: whether the person is inside of the zone, or to the right of the line.
        crossed_ns: since when the feet have been on the other side, None while they have not.
    """

    beyond: bool
    crossed_ns: int | None = None

    def differs(self, depth: float) -> bool:
        """Return whether feet are clearly on the other side, `depth` body sizes beyond the border."""
        return abs(depth) > BORDER_MARGIN and (depth > 0) != self.beyond

    def cross(self, depth: float, now_ns: int, after_s: float) -> int | None:
        """Update the side with one frame, and return since when the person is on the new side once that has lasted for `after_s`."""
        if not self.differs(depth):
            if abs(depth) > BORDER_MARGIN:
                self.crossed_ns = None
            return None
        if self.crossed_ns is None:
            self.crossed_ns = now_ns
        if now_ns - self.crossed_ns < after_s * NS_PER_S:
            return None
        since_ns, self.crossed_ns, self.beyond = self.crossed_ns, None, not self.beyond
        return since_ns
