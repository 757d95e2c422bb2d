"""Detection of zone changes: feet that enter and leave polygons in the frame, and stay in them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.border import BORDER_MARGIN, BorderSide
from edgepose.events.evidence import Evidence, strength
from edgepose.frame import NS_PER_S


@dataclass(slots=True)
class ZoneSide:
    """The side of a zone's border that a person is on, in observed time.

    Attributes:
        border: inside or outside.
        inside_since_ns: when the person entered, while inside.
        loitered: whether `loitering` was reported for this stay.
    """

    border: BorderSide = field(default_factory=lambda: BorderSide(beyond=False))
    inside_since_ns: int = 0
    loitered: bool = False


@dataclass(slots=True)
class ZoneHistory:
    """The analyzer's history of one person: the sides by name of the zone."""

    sides: dict[str, ZoneSide] = field(default_factory=dict)

    def inside(self, name: str) -> bool:
        """Return whether the person is inside of a zone."""
        return name in self.sides and self.sides[name].border.beyond


def detect_zone_changes(
    history: ZoneHistory,
    body: Body,
    now_ns: int,
    polygons: Mapping[str, Sequence[Point]],
    frame_size: tuple[int, int],
    settings: EventsConfig,
) -> list[Evidence]:
    """Update the history with one frame and return evidence for `zone_entered` and `zone_left`, which alternate, and for `loitering`.

    Args:
        history: of the person.
        body: of the person.
        now_ns: observed time.
        polygons: corners by name of the zone, as fractions of the width and height of the frame.
        frame_size: width and height of the frame in pixels.
        settings: times.
    """
    if body.feet is None:
        return []
    changes = []
    for name, corners in polygons.items():
        side = history.sides.setdefault(name, ZoneSide())
        depth = depth_px(body.feet, corners, frame_size) / body.size
        if (loitering := _loitering(side, name, now_ns, settings)) is not None:
            changes.append(loitering)
        since_ns = side.border.cross(depth, now_ns, settings.zone_after_s)
        if since_ns is None:
            continue
        inside, measurements = side.border.beyond, {"depth_bodies": depth}
        if not inside:
            measurements["inside_s"] = (since_ns - side.inside_since_ns) / NS_PER_S
        side.inside_since_ns, side.loitered = since_ns, False
        score = strength(abs(depth), BORDER_MARGIN, 1.0)
        changes.append(Evidence("zone_entered" if inside else "zone_left", since_ns, score, measurements, name))
    return changes


def _loitering(side: ZoneSide, name: str, now_ns: int, settings: EventsConfig) -> Evidence | None:
    """Return evidence for `loitering`, once a stay."""
    inside_s = (now_ns - side.inside_since_ns) / NS_PER_S
    if not side.border.beyond or side.loitered or side.border.crossed_ns is not None or inside_s < settings.loiter_after_s:
        return None
    side.loitered = True
    return Evidence("loitering", side.inside_since_ns, strength(inside_s, 0.0, 2 * settings.loiter_after_s), {"inside_s": inside_s}, name)


def leave_zones(history: ZoneHistory, last_seen_ns: int, polygons: Mapping[str, Sequence[Point]]) -> list[Evidence]:
    """Return evidence for `zone_left` for every zone that a person was inside when they left the frame."""
    changes = []
    for name, side in history.sides.items():
        if side.border.beyond and name in polygons:
            side.border.beyond = False
            inside_s = (last_seen_ns - side.inside_since_ns) / NS_PER_S
            changes.append(Evidence("zone_left", last_seen_ns, 0.5, {"inside_s": inside_s}, name))
    return changes


def depth_px(point: Point, corners: Sequence[Point], frame_size: tuple[int, int]) -> float:
    """Return the distance of a point from the border of a polygon in pixels, positive inside (even-odd rule)."""
    x, y = point
    width, height = frame_size
    inside, nearest = False, math.inf
    ax, ay = corners[-1][0] * width, corners[-1][1] * height
    for fraction_x, fraction_y in corners:
        bx, by = fraction_x * width, fraction_y * height
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
        along_x, along_y = bx - ax, by - ay
        length2 = along_x * along_x + along_y * along_y
        share = 0.0 if not length2 else min(1.0, max(0.0, ((x - ax) * along_x + (y - ay) * along_y) / length2))
        nearest = min(nearest, math.hypot(x - ax - share * along_x, y - ay - share * along_y))
        ax, ay = bx, by
    return nearest if inside else -nearest
