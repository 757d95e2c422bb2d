"""The parts of messages about an aircraft: places of people, the telemetry, and what the heat policy has given up."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edgepose.ground import TelemetryState

_Count = Annotated[int, Meta(ge=0)]


class GroundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a person on the ground, in a flat frame that touches the Earth (WGS 84) at `aircraft.origin`."""

    east_m: Annotated[float, Meta(description="meters east of the origin")]
    north_m: Annotated[float, Meta(description="meters north of the origin")]
    radius_m: Annotated[
        float, Meta(ge=0, description="the person is within this distance in 95 of 100 cases, if the errors in the configuration hold")
    ]
    lat: Annotated[float, Meta(description="latitude in degrees; absent where the position on the Earth is not known")] | UnsetType = UNSET
    lon: Annotated[float, Meta(description="longitude in degrees; absent where the position on the Earth is not known")] | UnsetType = UNSET
    speed_mps: (
        Annotated[float, Meta(ge=0, description="speed over ground in m/s over the last seconds; absent until the track is a second long")]
        | UnsetType
    ) = UNSET
    course_deg: (
        Annotated[float, Meta(description="direction of that movement, clockwise from north; absent with `speed_mps`")] | UnsetType
    ) = UNSET
    nearest_m: (
        Annotated[float, Meta(ge=0, description="distance to the nearest other person in the frame; absent where there is none")]
        | UnsetType
    ) = UNSET


class AircraftMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What carries the camera, at the capture time of the frame. All but `state` is absent where `state` is not `ok`."""

    state: Annotated[
        TelemetryState, Meta(description="`ok`, or why people have no places: what telemetry lacks, or that its samples are too old")
    ]
    age_ms: Annotated[float, Meta(ge=0, description="time between the frame and the nearest sample of telemetry")] | UnsetType = UNSET
    origin: (
        Annotated[
            tuple[float, float],
            Meta(description="latitude and longitude that `east_m` and `north_m` count from; it stays the same while the daemon runs"),
        ]
        | UnsetType
    ) = UNSET
    lat: Annotated[float, Meta(description="latitude in degrees")] | UnsetType = UNSET
    lon: Annotated[float, Meta(description="longitude in degrees")] | UnsetType = UNSET
    height_m: Annotated[float, Meta(description="height of the camera above the ground")] | UnsetType = UNSET
    heading_deg: Annotated[float, Meta(description="direction of the nose, clockwise from north")] | UnsetType = UNSET
    camera_pitch_deg: (
        Annotated[float, Meta(ge=-90, le=90, description="angle of the optical axis above the horizon; -90 is straight down")] | UnsetType
    ) = UNSET
    camera_heading_deg: Annotated[float, Meta(description="direction of the optical axis, clockwise from north")] | UnsetType = UNSET


class FlightHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The telemetry of the aircraft. Counters start at 0 when the daemon starts."""

    source: Annotated[str, Meta(description="where it comes from: `mavlink`, `mqtt` or `fixed`")]
    state: Annotated[TelemetryState, Meta(description="`ok`, or why people have no places now")]
    rate_hz: Annotated[float, Meta(description="attitudes a second over the last two seconds")]
    packets: Annotated[_Count, Meta(description="packets of the vehicle")]
    lost: Annotated[_Count, Meta(description="packets that never came, by their numbers")]
    restarts: Annotated[_Count, Meta(description="times that the vehicle has started again")]
    drops: Annotated[dict[str, int], Meta(description="packets that gave no sample, by cause")]
    failure: Annotated[str, Meta(description="why the link is not open, in one sentence; absent where it is")] | UnsetType = UNSET
    battery: Annotated[float, Meta(ge=0, le=1, description="charge that remains; absent where the vehicle does not say")] | UnsetType = (
        UNSET
    )


class HeatHealthMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the heat policy has given up."""

    given_up: Annotated[list[str], Meta(description="steps of `heat.policy` that are taken, in their order")]
    reason: Annotated[str, Meta(description="what is, or was, beyond its limit, in a few words")]
