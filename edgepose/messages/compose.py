"""Pose messages from frames, event messages from events, occupancy messages from numbers of people."""

import uuid
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from edgepose.config.schema import Profile
from edgepose.event import Event, Occupancy
from edgepose.frame import Frame
from edgepose.ground import Aircraft, GroundPlace
from edgepose.messages.flight_structs import AircraftMessage, GroundMessage
from edgepose.messages.structs import EventMessage, OccupancyMessage, PersonMessage, PosesMessage, ZoneOccupancyMessage, timestamp
from edgepose.person import KEYPOINT_NAMES, Person

_EVENT_NAMESPACE = uuid.UUID("8b0c2a52-6f0b-5a53-9d0e-2a7d3c1f4e66")  # RFC 9562, 5.5: names of this namespace identify events

_SOMEBODY = PersonMessage(score=0.0, box=(0.0, 0.0, 0.0, 0.0), keypoints=[(0.0, 0.0, 0.0)] * len(KEYPOINT_NAMES))


def poses_message(
    frame: Frame, people: Sequence[Person], now_ns: int, profile: Profile = "full", aircraft: Aircraft | None = None
) -> PosesMessage:
    """Return the message of one frame.

    Args:
        frame: the frame that the people were found in.
        people: in source pixels; may be empty.
        now_ns: current time in nanoseconds since the Unix epoch, which `age_ms` is measured to.
        profile: what the message says about a person; what it leaves out is 0, and `minimal` leaves places out.
        aircraft: what carries the camera; None for a camera without a mount.
    """
    return PosesMessage(
        camera=frame.camera,
        epoch=frame.epoch,
        sequence=frame.sequence,
        captured_at=timestamp(frame.captured_at_ns),
        clock=frame.clock,
        age_ms=round((now_ns - frame.captured_at_ns) / 1e6, 1),
        width=frame.width if frame.full_size is None else frame.full_size[0],
        height=frame.height if frame.full_size is None else frame.full_size[1],
        people=_people(people, source_scale(frame), profile),
        pixel_aspect=UNSET if frame.pixel_aspect == 1 else round(frame.pixel_aspect, 4),
        aircraft=UNSET if aircraft is None else _aircraft(aircraft),
    )


def event_message(event: Event, profile: Profile = "full") -> EventMessage:
    """Return the message of an event. The same event has the same identifier in every run. `minimal` leaves out box and evidence."""
    told = profile != "minimal"
    left, top, right, bottom = event.box if told else (0.0, 0.0, 0.0, 0.0)
    name = f"{event.camera}/{event.epoch}/{event.sequence}/{event.at_ns}/{event.track}/{event.kind}/{event.zone or event.line or ''}"
    return EventMessage(
        id=str(uuid.uuid5(_EVENT_NAMESPACE, name)),
        kind=event.kind,
        camera=event.camera,
        epoch=event.epoch,
        sequence=event.sequence,
        track=event.track,
        at=timestamp(event.at_ns),
        since=timestamp(event.since_ns),
        clock=event.clock,
        score=round(event.score, 3),
        width=event.width,
        height=event.height,
        box=(round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)),
        zone=UNSET if event.zone is None else event.zone,
        line=UNSET if event.line is None else event.line,
        direction=UNSET if event.direction is None else event.direction,
        ground=UNSET if event.ground is None or not told else _ground(event.ground),
        evidence={name: round(float(value), 3) for name, value in event.evidence.items() if told},
    )


def occupancy_message(camera: str, zone: str | None, people: Occupancy, at_ns: int) -> OccupancyMessage:
    """Return the message of the people in the frame of a camera, or in one of its zones.

    Args:
        camera: its name.
        zone: name of the zone; None for the whole frame.
        people: how many are there, have entered and have left.
        at_ns: time of the change, nanoseconds since the Unix epoch.
    """
    message = OccupancyMessage(
        camera=camera, count=people.count, occupied=people.count > 0, entered=people.entered, left=people.left, at=timestamp(at_ns)
    )
    return message if zone is None else ZoneOccupancyMessage(**msgspec.structs.asdict(message), zone=zone)


def source_scale(frame: Frame) -> tuple[float, float]:
    """Return how many pixels of its picture a pixel of the frame is, horizontally and vertically."""
    if frame.full_size is None:
        return 1.0, 1.0
    return frame.full_size[0] / frame.width, frame.full_size[1] / frame.height


def _people(people: Sequence[Person], scale: tuple[float, float], profile: Profile) -> list[PersonMessage]:
    if not people:
        return []
    if profile == "minimal":
        return [_SOMEBODY] * len(people)
    # float64, so that 0.1 is written as 0.1. One array for all people: the overhead of a NumPy call exceeds the cost of rounding.
    keypoints = np.array([person.keypoints for person in people], np.float64)  # (P, 17, 3)
    if scale != (1.0, 1.0):
        keypoints[..., :2] *= scale
    np.round(keypoints[..., :2], 1, out=keypoints[..., :2])
    np.round(keypoints[..., 2], 3, out=keypoints[..., 2])
    # JSON has no NaN. A keypoint that is not finite is written with confidence 0, which subscribers skip anyway.
    if not np.isfinite(keypoints).all():
        keypoints[~np.isfinite(keypoints).all(axis=2)] = 0
    if profile == "standard":
        keypoints[:] = 0
    return [_person(person, rows, scale) for person, rows in zip(people, keypoints.tolist(), strict=True)]


def _person(person: Person, keypoints: list[list[float]], scale: tuple[float, float]) -> PersonMessage:
    left, top, right, bottom = (person.box.astype(np.float64) * (scale * 2)).tolist()
    return PersonMessage(
        track=UNSET if person.track is None else person.track,
        score=round(float(person.score), 3),
        box=(round(left, 1), round(top, 1), round(right - left, 1), round(bottom - top, 1)),
        keypoints=[(x, y, confidence) for x, y, confidence in keypoints],
        ground=UNSET if person.ground is None else _ground(person.ground),
    )


def _ground(place: GroundPlace) -> GroundMessage:
    return GroundMessage(
        east_m=round(place.east_m, 2),
        north_m=round(place.north_m, 2),
        radius_m=round(place.radius_m, 2),
        lat=_rounded(place.latitude, 7),
        lon=_rounded(place.longitude, 7),
        speed_mps=_rounded(place.speed_mps, 2),
        course_deg=_rounded(place.course_deg, 1),
        nearest_m=_rounded(place.nearest_m, 2),
    )


def _aircraft(aircraft: Aircraft) -> AircraftMessage:
    origin = aircraft.origin
    return AircraftMessage(
        state=aircraft.state,
        age_ms=_rounded(aircraft.age_ms, 1),
        origin=UNSET if origin is None else (round(origin[0], 7), round(origin[1], 7)),
        lat=_rounded(aircraft.latitude, 7),
        lon=_rounded(aircraft.longitude, 7),
        height_m=_rounded(aircraft.height_m, 2),
        heading_deg=_rounded(aircraft.heading_deg, 1),
        camera_pitch_deg=_rounded(aircraft.camera_pitch_deg, 1),
        camera_heading_deg=_rounded(aircraft.camera_heading_deg, 1),
    )


def _rounded(value: float | None, digits: int) -> float | UnsetType:
    return UNSET if value is None else round(value, digits)
