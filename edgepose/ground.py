"""Places of people on the ground, what the aircraft was doing when they were seen, and zones and lines on the map."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from edgepose.earth import LocalFrame

TelemetryState = Literal["ok", "no_telemetry", "stale", "no_attitude", "no_position", "no_height", "no_gimbal"]
"""Whether a frame's people can be placed on the ground, or what is missing."""

MapPoint = tuple[float, float]
"""Meters east, and meters south: seen from above with north up, x points right and y down, as in a frame."""


class GroundPlace(msgspec.Struct, frozen=True):
    """The place of a person on the ground.

    Attributes:
        east_m, north_m: from the origin of the run.
        radius_m: the person is within this distance with a probability of 95 percent, if the errors in the configuration hold.
        latitude, longitude: degrees (WGS 84); None where the position of the camera on the Earth is not known.
        speed_mps, course_deg: over ground, and clockwise from north; None until the track is long enough.
        nearest_m: distance to the nearest other person in the frame; None where there is none.
    """

    east_m: float
    north_m: float
    radius_m: float
    latitude: float | None = None
    longitude: float | None = None
    speed_mps: float | None = None
    course_deg: float | None = None
    nearest_m: float | None = None


class Aircraft(msgspec.Struct, frozen=True):
    """What carries a camera, at the capture time of a frame.

    Attributes:
        state: whether people can be placed, or what is missing; with anything but `ok` the rest is None.
        age_ms: time between the frame and the nearest sample of telemetry.
        origin: latitude and longitude of the origin of `GroundPlace`; None where the position on the Earth is not known.
        latitude, longitude: degrees (WGS 84).
        height_m: of the camera above the ground.
        ground_altitude_m: of the ground above mean sea level; None where the altitude of the aircraft is not known.
        heading_deg: direction of the nose, clockwise from north.
        camera_pitch_deg, camera_heading_deg: where the optical axis points: above the horizon (-90 is straight down), and from north.
    """

    state: TelemetryState
    age_ms: float | None = None
    origin: tuple[float, float] | None = None
    latitude: float | None = None
    longitude: float | None = None
    height_m: float | None = None
    ground_altitude_m: float | None = None
    heading_deg: float | None = None
    camera_pitch_deg: float | None = None
    camera_heading_deg: float | None = None


class WorldPlaces(msgspec.Struct, frozen=True):
    """Zones and lines on the map, by name.

    Attributes:
        frame: whose meters the points are in; None where there are no places.
        zones: corners of polygons.
        lines: both ends.
    """

    frame: LocalFrame | None = None
    zones: Mapping[str, Sequence[MapPoint]] = msgspec.field(default_factory=dict)
    lines: Mapping[str, tuple[MapPoint, MapPoint]] = msgspec.field(default_factory=dict)

    def point(self, place: GroundPlace) -> MapPoint | None:
        """Return where a person is on the map; None where that is not known, or there is nothing on it."""
        if self.frame is None or place.latitude is None or place.longitude is None:
            return None
        east_m, north_m = self.frame.meters(place.latitude, place.longitude)
        return east_m, -north_m
