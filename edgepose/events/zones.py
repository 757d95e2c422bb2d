"""Zones: polygons in the picture that feet enter and leave.

Close to the border nobody changes sides: feet must be inside or outside by more than their noise, and stay there for a while.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgepose.config.schema import EventsConfig
from edgepose.events.body import Body, Point
from edgepose.events.evidence import Evidence, S, clarity

_MARGIN = 0.05  # body sizes on either side of the border


@dataclass(slots=True)
class Side:
    """On which side of one zone's border somebody is, and since when it has looked otherwise."""

    inside: bool = False
    since: int = 0  # of being inside
    other_since: int | None = None


@dataclass(slots=True)
class ZoneMemory:
    """Sides by name of the zone."""

    sides: dict[str, Side] = field(default_factory=dict)


def zones(
    memory: ZoneMemory, body: Body, now: int, polygons: Mapping[str, Sequence[Point]], size: tuple[int, int], settings: EventsConfig
) -> list[Evidence]:
    """Takes in one moment of one person; `zone_entered` and `zone_left` in turns, by zone.

    Args:
        polygons: corners as fractions of the picture's sides.
        size: width and height of the picture, pixels.
    """
    if body.feet is None:
        return []
    findings = []
    for name, corners in polygons.items():
        side = memory.sides.setdefault(name, Side())
        depth = depth_px(body.feet, corners, size) / body.size
        if (depth > _MARGIN) == side.inside or (depth < -_MARGIN) != side.inside:
            # As before; or within the border's noise, where nothing is decided.
            if abs(depth) > _MARGIN:
                side.other_since = None
            continue
        if side.other_since is None:
            side.other_since = now
        if now - side.other_since < settings.zone_after_s * S:
            continue
        evidence = {"depth_bodies": depth}
        if side.inside:
            evidence["inside_s"] = (side.other_since - side.since) / S
        findings.append(
            Evidence(
                "zone_left" if side.inside else "zone_entered",
                side.other_since,
                clarity(abs(depth), _MARGIN, 1.0),
                evidence,
                name,
            )
        )
        side.inside, side.since, side.other_since = not side.inside, side.other_since, None
    return findings


def gone(memory: ZoneMemory, seen_at: int, polygons: Mapping[str, Sequence[Point]]) -> list[Evidence]:
    """What is to be said when somebody inside of zones has left the picture: every zone that was entered is left, too."""
    findings = []
    for name, side in memory.sides.items():
        if side.inside and name in polygons:
            side.inside = False
            findings.append(Evidence("zone_left", seen_at, 0.5, {"inside_s": (seen_at - side.since) / S}, name))
    return findings


def depth_px(point: Point, corners: Sequence[Point], size: tuple[int, int]) -> float:
    """Distance in pixels of a point from the border of a polygon, positive inside (even-odd rule)."""
    x, y = point
    width, height = size
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
