"""Zones and lines on the map, read from a GeoJSON file (RFC 7946)."""

import json
import re
from pathlib import Path
from typing import Any

from edgepose.earth import LocalFrame
from edgepose.errors import ConfigError
from edgepose.ground import MapPoint, WorldPlaces

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FEATURES_LIMIT = 256
_CORNERS_LIMIT = 1024


def read_places(path: Path) -> WorldPlaces:
    """Read the zones (Polygon) and lines (LineString of two points) of a file; each feature has a property `name`.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"flight.places_file {path} cannot be read ({error}); expected a GeoJSON file") from error
    features = document.get("features") if isinstance(document, dict) else None
    if not isinstance(features, list) or not 0 < len(features) <= _FEATURES_LIMIT:
        raise ConfigError(f"flight.places_file {path} has no list of features; expected a FeatureCollection of 1 to {_FEATURES_LIMIT}")
    frame: LocalFrame | None = None
    zones: dict[str, list[MapPoint]] = {}
    lines: dict[str, tuple[MapPoint, MapPoint]] = {}
    for number, feature in enumerate(features, 1):
        try:
            name, kind, coordinates = _parts(feature)
            if name in zones or name in lines:
                raise ValueError(f"has the name {name} of an earlier one")
            if frame is None:
                frame = LocalFrame(coordinates[0][1], coordinates[0][0])
            points: list[MapPoint] = []
            for longitude, latitude in coordinates:
                east_m, north_m = frame.meters(latitude, longitude)
                points.append((east_m, -north_m))
            if kind == "Polygon":
                zones[name] = points
            else:
                lines[name] = (points[0], points[1])
        except ValueError as error:
            raise ConfigError(f"flight.places_file {path}: feature {number} {error}") from error
    return WorldPlaces(frame, zones, lines)


def _parts(feature: Any) -> tuple[str, str, list[tuple[float, float]]]:
    """Return name, kind of geometry, and longitudes and latitudes of a feature; ValueError where it is neither zone nor line."""
    properties = feature.get("properties") if isinstance(feature, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("has no usable name; expected properties.name of letters, digits, '.', '_' and '-'")
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if kind == "Polygon":
        if not isinstance(coordinates, list) or len(coordinates) != 1:
            raise ValueError(f"({name}) has holes or no ring; expected a polygon of one ring")
        points = _points(name, coordinates[0])
        if points[0] == points[-1]:
            points.pop()
        if len(points) < 3:
            raise ValueError(f"({name}) has {len(points)} corners; expected three or more")
        return name, kind, points
    if kind == "LineString":
        points = _points(name, coordinates)
        if len(points) != 2 or points[0] == points[1]:
            raise ValueError(f"({name}) has {len(points)} points; expected a line of two different points")
        return name, kind, points
    raise ValueError(f"({name}) is a {kind}; expected a Polygon or a LineString")


def _points(name: str, values: Any) -> list[tuple[float, float]]:
    if not isinstance(values, list) or not 1 < len(values) <= _CORNERS_LIMIT:
        raise ValueError(f"({name}) has no list of points; expected 2 to {_CORNERS_LIMIT}")
    points = []
    for value in values:
        if (
            not isinstance(value, list)
            or len(value) < 2
            or not all(isinstance(number, int | float) and not isinstance(number, bool) for number in value[:2])
            or not (abs(value[0]) <= 180 and abs(value[1]) <= 90)
        ):
            raise ValueError(f"({name}) has the point {str(value)[:40]}; expected [longitude, latitude] in degrees")
        points.append((float(value[0]), float(value[1])))
    return points
