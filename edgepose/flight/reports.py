"""What a ground station and the autopilot are told, as MAVLink packets: health and people. None of them is a command."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from edgepose.ground import Aircraft
from edgepose.person import Person

_OWN_ADDRESSES = 0xF00000  # 24-bit addresses that no state gives to aircraft (ICAO Annex 10, volume III, chapter 9)
_POINT_OBSTACLE = 19  # ADSB_EMITTER_TYPE_POINT_OBSTACLE: it does not fly
_VALID_PLACE, _VALID_ALTITUDE, _VALID_HEADING, _VALID_SPEED, _VALID_CALLSIGN = 1, 2, 4, 8, 16  # ADSB_FLAGS
_ONBOARD_COMPUTER, _NO_AUTOPILOT, _ACTIVE, _CRITICAL = 18, 8, 4, 5  # MAV_TYPE, MAV_AUTOPILOT, MAV_STATE
_WARNING, _INFO = 4, 6  # MAV_SEVERITY
_TEXT_BYTES = 50
_OLD_S = 2.0


@dataclass(frozen=True, slots=True)
class SeenPeople:
    """The people of a camera's last frame.

    Attributes:
        aircraft: at that frame.
        people: those with a place and a track number count.
        at_s: monotonic clock.
    """

    aircraft: Aircraft
    people: Sequence[Person]
    at_s: float


def people_packets(dialect: Any, camera: str, seen: SeenPeople, limit: int, now_s: float) -> list[Any]:
    """Return an ADSB_VEHICLE for each person with a place on the Earth; none once the frame is older than two seconds.

    It is the message of `common` that ground stations draw on their map: QGroundControl, Mission Planner and MAVProxy.
    CAMERA_TRACKING_GEO_STATUS would be about one target that a camera was told to follow, and FOLLOW_TARGET moves a vehicle that follows.

    Args:
        dialect: module of pymavlink.
        camera: its name; with the track number it makes the address.
        seen: people.
        limit: the surest so many.
        now_s: monotonic clock.
    """
    if now_s - seen.at_s > _OLD_S:
        return []
    packets: list[Any] = []
    for person in sorted(seen.people, key=lambda each: -each.score):
        place, track = person.ground, person.track
        if len(packets) == limit or track is None or place is None or place.latitude is None or place.longitude is None:
            continue
        flags = _VALID_PLACE | _VALID_CALLSIGN
        altitude_m = seen.aircraft.ground_altitude_m
        if altitude_m is not None:
            flags |= _VALID_ALTITUDE
        if place.speed_mps is not None:
            flags |= _VALID_HEADING | _VALID_SPEED
        packets.append(
            dialect.MAVLink_adsb_vehicle_message(
                _OWN_ADDRESSES | crc32(f"{camera}/{track}".encode()) & 0xFFFFF,
                round(place.latitude * 1e7),
                round(place.longitude * 1e7),
                1,  # ADSB_ALTITUDE_TYPE_GEOMETRIC
                round((altitude_m or 0.0) * 1e3),
                round((place.course_deg or 0.0) * 100) % 36_000,
                min(0xFFFF, round((place.speed_mps or 0.0) * 100)),
                0,
                f"PERS{track % 10_000}".encode(),
                _POINT_OBSTACLE,
                min(255, int(now_s - seen.at_s)),
                flags,
                0,
            )
        )
    return packets


def heartbeat(dialect: Any, *, works: bool) -> Any:
    """Return the HEARTBEAT of the daemon as an onboard computer."""
    return dialect.MAVLink_heartbeat_message(_ONBOARD_COMPUTER, _NO_AUTOPILOT, 0, 0, _ACTIVE if works else _CRITICAL, 3)


def status_text(dialect: Any, degraded: Sequence[str]) -> Any:
    """Return a STATUSTEXT that names the parts that work less well than they should, or says that all work."""
    text = f"edgepose: {', '.join(degraded) or 'all works'}".encode("ascii", "replace")[:_TEXT_BYTES]
    return dialect.MAVLink_statustext_message(_WARNING if degraded else _INFO, text)
