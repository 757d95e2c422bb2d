"""Detection of crossed lines: feet that go from one side of a line in the frame to the other, between its ends.

Hysteresis as at the border of a zone: the feet must be off the line by more than their noise, and stay on the other side for some time.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S

_MARGIN = 0.05  # body sizes on either side of the line


@dataclass(slots=True)
class LineSide:
    """The side of a line that a person is on, in observed time.

    Attributes:
        right: whether the feet were last to the right of the line, seen from its first point towards its second.
        feet: where they were then, off the line by more than the margin, in source pixels.
        crossed_ns: since when the feet have been on the other side, None while they have not.
    """

    right: bool
    feet: Point
    crossed_ns: int | None = None


@dataclass(slots=True)
class LineHistory:
    """The analyzer's history of one person: the sides by name of the line."""

    sides: dict[str, LineSide] = field(default_factory=dict)


def detect_line_crossings(
    history: LineHistory,
    body: Body,
    now_ns: int,
    lines: Mapping[str, tuple[Point, Point]],
    frame_size: tuple[int, int],
    settings: EventsConfig,
) -> list[Evidence]:
    """Update the history with one frame and return evidence for `line_crossed`.

    Args:
        history: of the person.
        body: of the person.
        now_ns: observed time.
        lines: both ends by name of the line, as fractions of the width and height of the frame.
        frame_size: width and height of the frame in pixels.
        settings: times.
    """
    if body.feet is None:
        return []
    crossings = []
    width, height = frame_size
    for name, ends in lines.items():
        (ax, ay), (bx, by) = ((x * width, y * height) for x, y in ends)
        depth = _right_of((ax, ay), (bx, by), body.feet) / body.size
        if abs(depth) <= _MARGIN:
            continue  # within the noise of the line, where nothing is decided
        side = history.sides.get(name)
        if side is None or (depth > 0) == side.right:
            history.sides[name] = LineSide(depth > 0, body.feet)
            continue
        if not _meet(side.feet, body.feet, (ax, ay), (bx, by)):  # around an end of the line
            history.sides[name] = LineSide(depth > 0, body.feet)
            continue
        if side.crossed_ns is None:
            side.crossed_ns = now_ns
        if now_ns - side.crossed_ns < settings.line_after_s * NS_PER_S:
            continue
        history.sides[name] = LineSide(depth > 0, body.feet)
        crossings.append(
            Evidence(
                "line_crossed",
                side.crossed_ns,
                strength(abs(depth), _MARGIN, 1.0),
                {"depth_bodies": abs(depth)},
                line=name,
                direction="to_right" if depth > 0 else "to_left",
            )
        )
    return crossings


def _right_of(start: Point, end: Point, point: Point) -> float:
    """Return the distance of a point from an endless line in pixels, positive to its right seen from start to end; y points down."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(along_x, along_y)
    return (along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])) / length if length else 0.0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the segments a-b and c-d cross."""
    return _right_of(c, d, a) * _right_of(c, d, b) <= 0 and _right_of(a, b, c) * _right_of(a, b, d) <= 0
