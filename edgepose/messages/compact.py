"""The compact encoding of poses: 98 bytes a person in fixed places, and 32 more with a place, for slow links and small receivers.

The layout is in docs/mqtt.md, "Compact poses", with decoders in JavaScript and C. All numbers are little-endian and unaligned.
"""

import math
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import get_args

import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from edgepose.errors import OutputError
from edgepose.frame import Clock
from edgepose.ground import TelemetryState
from edgepose.messages.flight_structs import AircraftMessage, GroundMessage
from edgepose.messages.structs import PersonMessage, PosesMessage, timestamp
from edgepose.person import KEYPOINT_NAMES

CONTENT_TYPE = "application/vnd.edgepose.poses"

VERSION, PLACED_VERSION = 1, 2
"""First byte of a message: without what carries the camera, and with it and places after the people."""

HEADER = struct.Struct("<BBBBIIfIQqf8sH")
"""Version, clock, step, 0, width, height, pixel aspect, epoch, sequence, microseconds, age in ms, session, number of people: 50 bytes."""

PERSON = np.dtype(
    [("keypoints", [("xy", "<i2", 2), ("confidence", "u1")], len(KEYPOINT_NAMES)), ("box", "<i2", 4), ("track", "<u4"), ("score", "u1")]
)
"""One person: 98 bytes."""

AIRCRAFT = struct.Struct("<Bfiiiiffff")
"""State, age in ms, origin and position (latitude, longitude), height, heading, pitch and heading of the camera: 37 bytes."""

PLACE = np.dtype([("degrees", "<i4", 2), ("meters", "<f4", 6)])
"""Place of one person: latitude and longitude, and east, north, radius, speed, course, distance to the nearest person: 32 bytes."""

NO_TRACK = 0xFFFFFFFF

_CLOCKS: tuple[Clock, ...] = get_args(Clock)
_STEPS_PER_PX = 4
_WIDEST_PX = 8000  # in quarter pixels; int16 leaves a margin of 191 px for positions outside the frame
_PEOPLE_LIMIT = 0xFFFF
_NO_SESSION = bytes(8)
_STATES: tuple[TelemetryState, ...] = get_args(TelemetryState)
_PER_DEGREE = 10_000_000
_NO_DEGREES = -0x80000000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def encode(message: PosesMessage) -> bytes:
    """Return a pose message in the compact encoding; its camera is in the topic.

    Positions are rounded to a quarter pixel (to `step` quarters in frames above 8000 px) and limited to what fits, scores and
    confidences to 1 / 255.
    """
    people = message.people[:_PEOPLE_LIMIT]
    step = max(1, -(-max(message.width, message.height) // _WIDEST_PX))
    records = np.zeros(len(people), PERSON)
    if people:
        keypoints = np.array([person.keypoints for person in people], np.float64)  # (P, 17, 3)
        records["keypoints"]["xy"] = _steps(keypoints[..., :2], step)
        records["keypoints"]["confidence"] = _bytes(keypoints[..., 2])
        records["box"] = _steps(np.array([person.box for person in people], np.float64), step)
        records["track"] = [NO_TRACK if person.track is UNSET else person.track for person in people]
        records["score"] = _bytes(np.array([person.score for person in people], np.float64))
    aircraft = message.aircraft
    header = HEADER.pack(
        *(VERSION if aircraft is UNSET else PLACED_VERSION, _CLOCKS.index(message.clock), step, 0, message.width, message.height),
        1.0 if message.pixel_aspect is UNSET else message.pixel_aspect,
        *(message.epoch & 0xFFFFFFFF, message.sequence, _microseconds(message.captured_at), message.age_ms),
        _NO_SESSION if message.session is UNSET else bytes.fromhex(message.session),
        len(people),
    )
    return header + records.tobytes() + (b"" if aircraft is UNSET else _packed_aircraft(aircraft) + _packed_places(people))


def decode(payload: bytes, camera: str) -> PosesMessage:
    """Return the pose message of a payload.

    Args:
        payload: as received.
        camera: its name, from the topic.

    Raises:
        OutputError: the payload is no compact pose message of these versions.
    """
    if len(payload) < HEADER.size or payload[0] not in (VERSION, PLACED_VERSION):
        raise OutputError(f"a payload of {len(payload)} bytes is no compact pose message; expected version 1 or 2 in its first byte")
    version, clock, step, _, width, height, aspect, epoch, sequence, time_us, age_ms, session, count = HEADER.unpack_from(payload)
    ends, placed = HEADER.size + count * PERSON.itemsize, version == PLACED_VERSION
    expected = ends + (AIRCRAFT.size + count * PLACE.itemsize if placed else 0)
    if len(payload) != expected or clock >= len(_CLOCKS) or not step or (placed and payload[ends] >= len(_STATES)):
        raise OutputError(f"a compact pose message of {count} people has {len(payload)} bytes; expected {expected}")
    grounds = _unpacked_places(payload, count, ends + AIRCRAFT.size) if placed else [UNSET] * count
    return PosesMessage(
        camera=camera,
        session=UNSET if session == _NO_SESSION else session.hex(),
        epoch=epoch,
        sequence=sequence,
        captured_at=timestamp(time_us * 1000),
        clock=_CLOCKS[clock],
        age_ms=round(age_ms, 1),
        width=width,
        height=height,
        pixel_aspect=UNSET if aspect == 1 else round(aspect, 4),
        people=[
            _person(record, step, ground)
            for record, ground in zip(np.frombuffer(payload, PERSON, count, HEADER.size), grounds, strict=True)
        ],
        aircraft=_unpacked_aircraft(payload, ends) if placed else UNSET,
    )


def _person(record: np.void, step: int, ground: GroundMessage | UnsetType) -> PersonMessage:
    px = step / _STEPS_PER_PX
    points = record["keypoints"]
    left, top, width, height = (record["box"] * px).tolist()
    xy, confidences = (points["xy"] * px).tolist(), np.round(points["confidence"] / 255, 3).tolist()
    return PersonMessage(
        track=UNSET if record["track"] == NO_TRACK else int(record["track"]),
        score=round(int(record["score"]) / 255, 3),
        box=(left, top, width, height),
        keypoints=[(x, y, confidence) for (x, y), confidence in zip(xy, confidences, strict=True)],
        ground=ground,
    )


def _packed_aircraft(aircraft: AircraftMessage) -> bytes:
    origin: tuple[float | UnsetType, float | UnsetType] = (UNSET, UNSET) if aircraft.origin is UNSET else aircraft.origin
    return AIRCRAFT.pack(
        _STATES.index(aircraft.state),
        _real(aircraft.age_ms),
        *map(_degrees, (*origin, aircraft.lat, aircraft.lon)),
        *map(_real, (aircraft.height_m, aircraft.heading_deg, aircraft.camera_pitch_deg, aircraft.camera_heading_deg)),
    )


def _unpacked_aircraft(payload: bytes, at: int) -> AircraftMessage:
    state, age_ms, *numbers = AIRCRAFT.unpack_from(payload, at)
    south, west, lat, lon = (_of_degrees(number) for number in numbers[:4])
    height, heading, pitch, camera_heading = numbers[4:]
    return AircraftMessage(
        state=_STATES[state],
        age_ms=_of_real(age_ms, 1),
        origin=UNSET if south is UNSET or west is UNSET else (south, west),
        lat=lat,
        lon=lon,
        height_m=_of_real(height, 2),
        heading_deg=_of_real(heading, 1),
        camera_pitch_deg=_of_real(pitch, 1),
        camera_heading_deg=_of_real(camera_heading, 1),
    )


def _packed_places(people: Sequence[PersonMessage]) -> bytes:
    records = np.zeros(len(people), PLACE)
    records["degrees"], records["meters"] = _NO_DEGREES, math.nan
    for record, person in zip(records, people, strict=True):
        ground = person.ground
        if ground is not UNSET:
            record["degrees"] = _degrees(ground.lat), _degrees(ground.lon)
            values = (ground.east_m, ground.north_m, ground.radius_m, ground.speed_mps, ground.course_deg, ground.nearest_m)
            record["meters"] = [_real(value) for value in values]
    return records.tobytes()


def _unpacked_places(payload: bytes, count: int, at: int) -> list[GroundMessage | UnsetType]:
    found: list[GroundMessage | UnsetType] = []
    for record in np.frombuffer(payload, PLACE, count, at):
        east, north, radius, speed, course, nearest = record["meters"].tolist()
        if math.isnan(radius):
            found.append(UNSET)
            continue
        latitude, longitude = record["degrees"].tolist()
        ground = GroundMessage(
            east_m=round(east, 2),
            north_m=round(north, 2),
            radius_m=round(radius, 2),
            lat=_of_degrees(latitude),
            lon=_of_degrees(longitude),
            speed_mps=_of_real(speed, 2),
            course_deg=_of_real(course, 1),
            nearest_m=_of_real(nearest, 2),
        )
        found.append(ground)
    return found


def _real(value: float | UnsetType) -> float:
    return math.nan if value is UNSET else value


def _of_real(value: float, digits: int) -> float | UnsetType:
    return UNSET if math.isnan(value) else round(value, digits)


def _degrees(value: float | UnsetType) -> int:
    return _NO_DEGREES if value is UNSET else round(value * _PER_DEGREE)


def _of_degrees(value: int) -> float | UnsetType:
    return UNSET if value == _NO_DEGREES else value / _PER_DEGREE


def _steps(px: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    steps: NDArray[np.float64] = np.clip(np.rint(px * (_STEPS_PER_PX / step)), -0x8000, 0x7FFF)
    return steps


def _bytes(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    levels: NDArray[np.float64] = np.rint(np.clip(shares, 0, 1) * 255)
    return levels


def _microseconds(time: str) -> int:
    return (datetime.fromisoformat(time.replace("Z", "+00:00")) - _EPOCH) // timedelta(microseconds=1)
