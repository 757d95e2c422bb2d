"""The map of a flight as one page that loads nothing: paths over a grid of meters, or over a given orthophoto."""

import base64
import html
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from edgepose.earth import LocalFrame
from edgepose.errors import UsageError
from edgepose_export.flight.log import FlightLog, PathPoint

_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"RIFF": "image/webp"}
_PHOTO_LIMIT_MB = 64


@dataclass(frozen=True, slots=True)
class Orthophoto:
    """A photograph from straight above with north on top.

    Attributes:
        path: JPEG, PNG or WebP.
        west, south, east, north: its edges in degrees.
    """

    path: Path
    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        if not (-180 <= self.west < self.east <= 180 and -90 <= self.south < self.north <= 90):
            raise UsageError("the edges of the orthophoto are not in order; expected WEST,SOUTH,EAST,NORTH in degrees")

    def data_url(self) -> str:
        """Return the file as a URL that holds it.

        Raises:
            UsageError: the file cannot be read, is larger than 64 MB, or no picture that browsers show.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise UsageError(f"the orthophoto {self.path} cannot be read ({error}); expected a picture") from error
        kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), None)
        if kind is None or len(data) > _PHOTO_LIMIT_MB * 1_000_000:
            raise UsageError(f"{self.path} is no JPEG, PNG or WebP of at most {_PHOTO_LIMIT_MB} MB; expected one")
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def map_page(log: FlightLog, title: str, photo: Orthophoto | None = None) -> str:
    """Return the page."""
    points = [point for path in (*log.aircraft, *(person.points for person in log.people)) for point in path]
    first = points[0] if points else None
    frame = LocalFrame(0.0, 0.0) if first is None else LocalFrame(first.latitude, first.longitude)
    began_s = min((point.seconds for point in points), default=0.0)

    def flat(point: PathPoint) -> list[float]:
        east_m, north_m = frame.meters(point.latitude, point.longitude)
        return [round(point.seconds - began_s, 2), round(east_m, 2), round(north_m, 2), round(point.radius_m, 2)]

    data: dict[str, Any] = {
        "origin": [frame.latitude, frame.longitude],
        "began": min((point.at for point in points), default=""),
        "aircraft": [[flat(point) for point in path] for path in log.aircraft],
        "people": [{"name": f"{path.camera} {path.track}", "points": [flat(point) for point in path.points]} for path in log.people],
        "events": [
            {"name": f"{event.message.kind}, {event.message.camera} {event.message.track}", "point": flat(event.point)}
            for event in log.events
            if event.point is not None
        ],
    }
    if photo is not None:
        west, south = frame.meters(photo.south, photo.west)
        east, north = frame.meters(photo.north, photo.east)
        data["photo"] = {"url": photo.data_url(), "box": [west, south, east, north]}
    missing = sum(log.without.values())
    reasons = ", ".join(f"{count} {state}" for state, count in log.without.most_common())
    facts = [
        f"{log.messages} pose messages, {len(log.people)} people, {_counted(len(log.events), 'event')}",
        *([f"{_counted(missing, 'message')} without places ({reasons})"] if missing else []),
        *([f"{_counted(log.unreadable, 'unreadable line')}"] if log.unreadable else []),
    ]
    template = files("edgepose_export.flight").joinpath("map.html").read_text(encoding="utf-8")
    texts = {"title": html.escape(title), "facts": html.escape("; ".join(facts)), "data": json.dumps(data).replace("<", "\\u003c")}
    return re.sub(r"{{(\w+)}}", lambda found: texts[found[1]], template)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
