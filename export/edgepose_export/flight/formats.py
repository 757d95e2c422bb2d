"""A flight as GeoJSON (RFC 7946) and as KML 2.2 with Google's tracks, which Google Earth plays over time."""

import json
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from edgepose_export.flight.log import FlightLog, PathPoint

_KML = """<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2">
<Document>
<name>{name}</name>
<Style id="aircraft"><LineStyle><color>ffc46621</color><width>2</width></LineStyle></Style>
<Style id="person"><LineStyle><color>ff0a54c4</color><width>3</width></LineStyle></Style>
{placemarks}
</Document>
</kml>
"""


def geojson(log: FlightLog) -> str:
    """Return paths as LineStrings, or Points where there is one, and events as Points; times are in their properties."""
    features = [
        *(_line(path, {"kind": "aircraft", "height_m": [point.radius_m for point in path]}) for path in log.aircraft),
        *(
            _line(
                path.points,
                {"kind": "person", "camera": path.camera, "track": path.track, "radius_m": [point.radius_m for point in path.points]},
            )
            for path in log.people
        ),
    ]
    for event in log.events:
        if event.point is not None:
            message, point = event.message, event.point
            properties = {"kind": message.kind, "camera": message.camera, "track": message.track, "at": message.at, "score": message.score}
            features.append(_feature("Point", [point.longitude, point.latitude], properties))
    return json.dumps({"type": "FeatureCollection", "features": features})


def kml(log: FlightLog, name: str) -> str:
    """Return a document of tracks and of placemarks for events."""
    return _KML.format(name=escape(name), placemarks="\n".join(_placemarks(log)))


def _placemarks(log: FlightLog) -> Iterator[str]:
    for path in log.aircraft:
        yield _track("aircraft", "aircraft", path, "relativeToGround", [point.radius_m for point in path])
    for person in log.people:
        yield _track(f"{person.camera} {person.track}", "person", person.points, "clampToGround", [0.0] * len(person.points))
    for event in log.events:
        if event.point is not None:
            message, point = event.message, event.point
            yield (
                f"<Placemark><name>{escape(message.kind)}</name><description>{escape(message.camera)} {message.track}</description>"
                f"<TimeStamp><when>{escape(message.at)}</when></TimeStamp>"
                f"<Point><coordinates>{point.longitude:.7f},{point.latitude:.7f}</coordinates></Point></Placemark>"
            )


def _track(name: str, style: str, path: list[PathPoint], mode: str, heights: list[float]) -> str:
    times = "".join(f"<when>{escape(point.at)}</when>" for point in path)
    places = "".join(
        f"<gx:coord>{point.longitude:.7f} {point.latitude:.7f} {height:.2f}</gx:coord>" for point, height in zip(path, heights, strict=True)
    )
    return (
        f"<Placemark><name>{escape(name)}</name><styleUrl>#{style}</styleUrl>"
        f"<gx:Track><altitudeMode>{mode}</altitudeMode>{times}{places}</gx:Track></Placemark>"
    )


def _line(path: list[PathPoint], properties: dict[str, Any]) -> dict[str, Any]:
    places = [[point.longitude, point.latitude] for point in path]
    properties = {**properties, "times": [point.at for point in path]}
    return _feature("Point", places[0], properties) if len(places) == 1 else _feature("LineString", places, properties)


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}}
