"""Telemetry as JSON messages, for sources that do not speak MAVLink."""

import math
import time
from datetime import datetime, timezone
from typing import Annotated

import msgspec
from msgspec import Meta

from edgepose.flight.history import Attitude, GimbalAttitude, Position, TelemetryHistory
from edgepose.flight.rotations import quaternion
from edgepose.frame import NS_PER_S

_Angle = Annotated[float, Meta(ge=-360, le=360)]
_AHEAD_NS, _OLD_NS = NS_PER_S, 60 * NS_PER_S
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class TelemetryMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The telemetry of one moment; unknown fields are ignored.

    Attributes:
        at: when it was measured; without it, when it arrives.
        roll_deg, pitch_deg, heading_deg: of the body: right side down, front up, clockwise from north.
        lat, lon: degrees.
        height_m: above the place of the start.
        altitude_m: above mean sea level.
        clearance_m: above the ground, for `height: rangefinder` or `terrain`.
        gimbal_roll_deg, gimbal_pitch_deg, gimbal_heading_deg: of the gimbal, against the horizon and north.
    """

    at: datetime | None = None
    roll_deg: _Angle = 0.0
    pitch_deg: _Angle = 0.0
    heading_deg: _Angle
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]
    height_m: float | None = None
    altitude_m: float | None = None
    clearance_m: float | None = None
    gimbal_roll_deg: _Angle = 0.0
    gimbal_pitch_deg: _Angle | None = None
    gimbal_heading_deg: _Angle | None = None


_decoder = msgspec.json.Decoder(TelemetryMessage)


class TopicReader:
    """The reader of telemetry messages.

    Args:
        history: receives the samples; counts what is dropped.
    """

    def __init__(self, history: TelemetryHistory) -> None:
        self._history = history
        self.messages = 0

    def take(self, payload: bytes) -> None:
        """Take one message, in the thread of the subscriber."""
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        try:
            message = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._history.dropped["malformed"] += 1
            return
        self.messages += 1
        time_ns = now_ns
        if message.at is not None:
            age_ns = wall_ns - _nanoseconds(message.at)
            if not -_AHEAD_NS <= age_ns <= _OLD_NS:
                self._history.dropped["clock"] += 1
                return
            time_ns -= age_ns
        body = quaternion(*map(math.radians, (message.roll_deg, message.pitch_deg, message.heading_deg)))
        self._history.add_attitude(time_ns, Attitude(body))
        self._history.add_position(time_ns, Position(message.lat, message.lon, message.altitude_m, message.height_m))
        if message.clearance_m is not None:
            self._history.add_clearance(time_ns, message.clearance_m)
        if message.gimbal_pitch_deg is not None:
            from_nose = message.gimbal_heading_deg is None
            angles = (message.gimbal_roll_deg, message.gimbal_pitch_deg, message.gimbal_heading_deg or 0.0)
            self._history.add_gimbal(time_ns, GimbalAttitude(quaternion(*map(math.radians, angles)), from_nose))


def _nanoseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    passed = aware - _UNIX_EPOCH
    return (passed.days * 86_400 + passed.seconds) * NS_PER_S + passed.microseconds * 1000
