"""Detection of crossed lines: feet that go from one side of a line in the frame to the other, between its ends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.event import Direction
from edgepose.events.body import Body, Point
from edgepose.events.border import BORDER_MARGIN, BorderSide
from edgepose.events.evidence import Evidence, strength


@dataclass(slots=True)
class LineSide:
    """The side of a line that a person is on, in observed time.

    Attributes:
        border: to the right of the line or to the left, seen from its first point towards its second.
        feet: where they were last on that side, off the line by more than the margin, in source pixels.
    """

    border: BorderSide
    feet: Point


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
        if abs(depth) <= BORDER_MARGIN:
            continue
        side = history.sides.get(name)
        around = side is not None and not _meet(side.feet, body.feet, (ax, ay), (bx, by))  # an end of the line
        if side is None or not side.border.differs(depth) or around:
            history.sides[name] = LineSide(BorderSide(depth > 0), body.feet)
            continue
        since_ns = side.border.cross(depth, now_ns, settings.line_after_s)
        if since_ns is None:
            continue
        side.feet = body.feet
        score = strength(abs(depth), BORDER_MARGIN, 1.0)
        direction: Direction = "to_right" if depth > 0 else "to_left"
        crossings.append(Evidence("line_crossed", since_ns, score, {"depth_bodies": abs(depth)}, line=name, direction=direction))
    return crossings


def _right_of(start: Point, end: Point, point: Point) -> float:
    """Return the distance of a point from an endless line in pixels, positive to its right seen from start to end; y points down."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = math.hypot(along_x, along_y)
    return (along_x * (point[1] - start[1]) - along_y * (point[0] - start[0])) / length if length else 0.0


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the segments a-b and c-d cross."""
    return _right_of(c, d, a) * _right_of(c, d, b) <= 0 and _right_of(a, b, c) * _right_of(a, b, d) <= 0
