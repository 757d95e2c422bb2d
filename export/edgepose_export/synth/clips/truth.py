"""What happens in a clip: events of people, of a zone and of a line, with the ground that both are on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.camera import Camera
from edgepose_export.synth.clips.motion import Actor
from edgepose_export.synth.clips.scripts import LINE, LINE_AT, ZONE, ZONE_LEFT, ZONE_RIGHT

_EVENTS = {"fall": "fallen", "wave": "waving", "arms_up": "arms_up"}  # of acts
_FARTHEST = 1.6  # of the zone and the line, as a multiple of the distance to the middle of the scene
_LOWEST = 0.97  # of the picture's height


@dataclass(frozen=True, slots=True, eq=False)
class Marks:
    """A zone and a line on the ground, as they lie in the first picture.

    Attributes:
        zone, line: float64 (4, 2) and (2, 2), shares of the width and height of the first picture.
        zone_m, line_m: the same on the ground, meters.
    """

    zone: NDArray[np.float64]
    line: NDArray[np.float64]
    zone_m: NDArray[np.float64]
    line_m: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return the fields `zones` and `lines` of a video."""
        return {
            "zones": {ZONE: {"polygon": _rounded(self.zone), "ground_m": _rounded(self.zone_m)}},
            "lines": {LINE: {"points": _rounded(self.line), "ground_m": _rounded(self.line_m)}},
        }


def mark_ground(camera: Camera, top: int, distance_m: float) -> Marks:
    """Return the zone and the line that the first camera of a clip sees.

    Args:
        camera: at time 0.
        top: row of the camera's picture where the clip's picture begins.
        distance_m: from the camera to the middle of the scene.
    """
    height = camera.size - 2 * top
    shares = np.linspace(0.03, _LOWEST, 200)
    _, distances = camera.ground(np.column_stack((np.full(200, camera.size / 2), top + shares * height)))
    highest = float(shares[np.argmax(distances < _FARTHEST * distance_m)])
    zone = np.array([[ZONE_LEFT, highest], [ZONE_RIGHT, highest], [ZONE_RIGHT, _LOWEST], [ZONE_LEFT, _LOWEST]])
    line = np.array([[LINE_AT, _LOWEST], [LINE_AT, highest]])

    def on_ground(corners: NDArray[np.float64]) -> NDArray[np.float64]:
        return camera.ground(corners * [camera.size, height] + [0, top])[0]

    return Marks(zone, line, on_ground(zone), on_ground(line))


def act_events(actors: Sequence[Actor], duration_s: float) -> list[dict[str, Any]]:
    """Return the events that follow from what people do; `person` counts from 0, times are seconds."""
    events = []
    for person, actor in enumerate(actors):
        for act in actor.acts:
            if act.kind in _EVENTS:
                event: dict[str, Any] = {"kind": _EVENTS[act.kind], "person": person, "start": act.start, "end": min(act.end, duration_s)}
                if act.kind == "wave":
                    event["wrist"] = "left" if act.side == "L" else "right"
                events.append(event)
    return events


def crossing_events(
    marks: Marks, feet: NDArray[np.float64], seen: NDArray[np.bool_], times_s: NDArray[np.float64], duration_s: float
) -> list[dict[str, Any]]:
    """Return the events of one person at the zone and the line; `start` and `end` are the same moment.

    Who is in the zone when first seen has entered it then, and who leaves the picture from within it has left it.

    Args:
        marks: of the clip.
        feet: float64 (T, 2), the middle between the feet on the ground, meters.
        seen: bool (T,), whether the person is in the picture.
        times_s: float64 (T,), of the frames.
        duration_s: of the clip.
    """
    events: list[dict[str, Any]] = []
    depth = np.array([_depth(point, marks.zone_m) for point in feet])
    side = np.array([_side(point, marks.line_m) for point in feet])
    frames = np.flatnonzero(seen)
    if not len(frames):
        return []

    def add(kind: str, moment_s: float, **more: str) -> None:
        events.append({"kind": kind, "start": moment_s, "end": moment_s, **more})

    if depth[frames[0]] > 0:
        add("zone_entered", float(times_s[frames[0]]), zone=ZONE)
    for before, after in pairwise(frames.tolist()):
        if (depth[before] > 0) != (depth[after] > 0):
            moment = _zero(times_s[before], times_s[after], depth[before], depth[after])
            add("zone_entered" if depth[after] > 0 else "zone_left", moment, zone=ZONE)
        if (side[before] > 0) != (side[after] > 0) and _beside(feet[after], marks.line_m):
            moment = _zero(times_s[before], times_s[after], side[before], side[after])
            add("line_crossed", moment, line=LINE, direction="right" if side[after] > 0 else "left")
    last = frames[-1]
    if depth[last] > 0 and last < len(seen) - 1:
        add("zone_left", float(times_s[last]), zone=ZONE)
    return sorted((event for event in events if event["start"] <= duration_s), key=lambda event: float(event["start"]))


def _zero(start_s: float, end_s: float, first: float, last: float) -> float:
    """Return when a value that changes evenly from `first` to `last` is 0."""
    return float(start_s + (end_s - start_s) * first / (first - last))


def _side(point: NDArray[np.float64], line: NDArray[np.float64]) -> float:
    """Return how far a point is to the right of a line, looking from its first point to its second."""
    along, across = line[1] - line[0], point - line[0]
    return float((along[1] * across[0] - along[0] * across[1]) / np.linalg.norm(along))


def _beside(point: NDArray[np.float64], line: NDArray[np.float64]) -> bool:
    """Return whether a point is beside a line, not beyond one of its ends."""
    along = line[1] - line[0]
    return bool(0 <= (point - line[0]) @ along <= along @ along)


def _depth(point: NDArray[np.float64], corners: NDArray[np.float64]) -> float:
    """Return how far inside a convex polygon a point is; negative outside."""
    sides = [_side(point, np.array([first, second])) for first, second in zip(corners, np.roll(corners, -1, 0), strict=True)]
    around = np.sign(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, np.roll(corners, -1, 0), strict=True)))
    return float(min(-around * side for side in sides))


def _rounded(points: NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(value), 5) for value in point] for point in points]
