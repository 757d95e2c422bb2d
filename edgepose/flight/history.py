"""The last seconds of an aircraft's telemetry, and from it the pose of the aircraft at the capture time of a frame."""

import math
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

from edgepose.config.aircraft import FlightConfig
from edgepose.earth import LocalFrame
from edgepose.flight.rotations import Quaternion, between, matrix, turned
from edgepose.flight.samples import Sample, Samples
from edgepose.frame import NS_PER_S
from edgepose.ground import TelemetryState

T = TypeVar("T")

DROP_CAUSES = ("no_fix", "out_of_range", "not_a_number", "duplicate", "other_start", "malformed", "clock")
"""Why packets become no samples."""

_HIGHEST_M = 100_000.0


@dataclass(frozen=True, slots=True)
class Attitude:
    """An attitude: the body (front, right, down) in the world (north, east, down), and its rates in radians per second."""

    quaternion: Quaternion
    rates: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Position:
    """A position.

    Attributes:
        latitude, longitude: degrees (WGS 84).
        altitude_m: above mean sea level; None where it is not known.
        height_m: above the place of the start; None where it is not known.
        velocity: meters per second north, east, down.
    """

    latitude: float
    longitude: float
    altitude_m: float | None = None
    height_m: float | None = None
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class GimbalAttitude:
    """The attitude of a gimbal (front, right, down).

    Attributes:
        quaternion: roll and pitch against the horizon; yaw from north, or from the nose of the vehicle.
        from_nose: whether the yaw counts from the nose.
    """

    quaternion: Quaternion
    from_nose: bool


@dataclass(frozen=True, slots=True)
class AircraftPose:
    """An aircraft at one moment.

    Attributes:
        attitude: as in `Attitude`.
        latitude, longitude: degrees; None where only the height is known.
        height_m: above the ground.
        altitude_m: above mean sea level, where it is known.
        gimbal: where there is one.
        age_s: time to the nearest sample of what is known least freshly.
    """

    attitude: Attitude
    height_m: float
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    gimbal: GimbalAttitude | None = None
    age_s: float = 0.0


class TelemetryHistory:
    """The history of one aircraft; one thread adds to it, others read.

    Attributes:
        dropped: what did not become a sample, by cause.
    """

    def __init__(self, settings: FlightConfig) -> None:
        self._lock = threading.Lock()
        self._attitudes: Samples[Attitude] = Samples()
        self._positions: Samples[Position] = Samples()
        self._gimbals: Samples[GimbalAttitude] = Samples()
        self._clearances: Samples[float] = Samples()
        self._settings = settings
        self.dropped: Counter[str] = Counter()

    def clear(self) -> None:
        """Forget everything, since the vehicle has started again."""
        with self._lock:
            for samples in (self._attitudes, self._positions, self._gimbals, self._clearances):
                samples.clear()

    def add_attitude(self, time_ns: int, value: Attitude) -> None:
        """Add an attitude with its time on the monotonic clock."""
        self._add(self._attitudes, time_ns, value, *value.quaternion, *value.rates)

    def add_position(self, time_ns: int, value: Position) -> None:
        """Add a position with its time on the monotonic clock."""
        heights = [height for height in (value.altitude_m, value.height_m) if height is not None]
        if abs(value.latitude) > 90 or abs(value.longitude) > 180 or (value.latitude == 0 and value.longitude == 0):
            self.dropped["no_fix"] += 1
            return
        if any(abs(height) > _HIGHEST_M for height in heights):
            self.dropped["out_of_range"] += 1
            return
        self._add(self._positions, time_ns, value, value.latitude, value.longitude, *heights, *value.velocity)

    def add_gimbal(self, time_ns: int, value: GimbalAttitude) -> None:
        """Add the attitude of the gimbal with its time on the monotonic clock."""
        self._add(self._gimbals, time_ns, value, *value.quaternion)

    def add_clearance(self, time_ns: int, value: float) -> None:
        """Add a distance to the ground in meters: along the body's downward axis from a rangefinder, otherwise vertical."""
        self._add(self._clearances, time_ns, value, value)

    def age_s(self, now_ns: int) -> float | None:
        """Return the time since the newest attitude or the newest position, whichever is longer ago; None where one is missing."""
        with self._lock:
            newest = (self._attitudes.newest(), self._positions.newest())
        return None if newest[0] is None or newest[1] is None else max(0, now_ns - min(newest[0].time_ns, newest[1].time_ns)) / NS_PER_S

    def rate_hz(self, now_ns: int) -> float:
        """Return attitudes per second over the last two seconds."""
        with self._lock:
            before, _ = self._attitudes.around(now_ns)
            count = 0
            while before is not None and now_ns - before.time_ns < 2 * NS_PER_S:
                count += 1
                before, _ = self._attitudes.around(before.time_ns - 1)
        return count / 2

    def pose(self, time_ns: int, *, gimbal: bool) -> AircraftPose | TelemetryState:
        """Return the pose at a time of the monotonic clock, or what is missing for it.

        Between two samples it is interpolated; after the last one it goes on at the rates and the velocity of that sample.

        Args:
            time_ns: capture time of a frame.
            gimbal: whether the attitude of the gimbal is needed too.
        """
        with self._lock:
            attitudes, positions = self._attitudes.around(time_ns), self._positions.around(time_ns)
            gimbals, clearances = self._gimbals.around(time_ns), self._clearances.around(time_ns)
        if attitudes == positions == (None, None):
            return "no_telemetry"
        if attitudes == (None, None):
            return "no_attitude"
        if positions == (None, None):
            return "no_position"
        if gimbal and gimbals == (None, None):
            return "no_gimbal"
        needed = [_age_ns(attitudes, time_ns), _age_ns(positions, time_ns)]
        if gimbal:
            needed.append(_age_ns(gimbals, time_ns))
        attitude, position = _attitude_at(attitudes, time_ns), _position_at(positions, time_ns)
        height_m = self._height_m(position)
        if height_m is None:
            if self._settings.height in ("home", "sea_level") or clearances == (None, None):
                return "no_height"
            height_m = self._cleared_m(clearances, attitude, time_ns)
            needed.append(_age_ns(clearances, time_ns))
        if max(needed) > self._settings.maximum_age_s * NS_PER_S:
            return "stale"
        nearest = _gimbal_at(gimbals, time_ns) if gimbal else None
        age_s = max(needed) / NS_PER_S
        return AircraftPose(attitude, height_m, position.latitude, position.longitude, position.altitude_m, nearest, age_s)

    def _height_m(self, position: Position) -> float | None:
        if self._settings.height == "home":
            return position.height_m
        if self._settings.height == "sea_level" and position.altitude_m is not None:
            return position.altitude_m - (self._settings.ground_altitude_m or 0.0)
        return None

    def _cleared_m(self, pair: "_Pair[float]", attitude: Attitude, time_ns: int) -> float:
        value = _linear(pair, time_ns)
        if self._settings.height == "rangefinder":
            value *= float(matrix(attitude.quaternion)[2, 2])  # of a beam that is tilted
        return value

    def _add(self, samples: Samples[T], time_ns: int, value: T, *numbers: float) -> None:
        if not all(map(math.isfinite, numbers)):
            self.dropped["not_a_number"] += 1
            return
        with self._lock:
            added = samples.add(time_ns, value)
        if not added:
            self.dropped["duplicate"] += 1


_Pair = tuple[Sample[T] | None, Sample[T] | None]


def _age_ns(pair: "_Pair[T]", time_ns: int) -> int:
    return min(abs(sample.time_ns - time_ns) for sample in pair if sample is not None)


def _share(before: Sample[T], after: Sample[T], time_ns: int) -> float:
    return (time_ns - before.time_ns) / (after.time_ns - before.time_ns)


def _only(pair: "_Pair[T]") -> Sample[T]:
    sample = pair[0] or pair[1]
    assert sample is not None
    return sample


def _attitude_at(pair: "_Pair[Attitude]", time_ns: int) -> Attitude:
    before, after = pair
    if before is not None and after is not None:
        share = _share(before, after, time_ns)
        nearest = before if share < 0.5 else after
        return Attitude(between(before.value.quaternion, after.value.quaternion, share), nearest.value.rates)
    sample = _only(pair)
    ahead_s = (time_ns - sample.time_ns) / NS_PER_S
    return Attitude(turned(sample.value.quaternion, sample.value.rates, ahead_s), sample.value.rates)


def _position_at(pair: "_Pair[Position]", time_ns: int) -> Position:
    before, after = pair
    if before is None or after is None:
        sample = _only(pair)
        return _moved(sample.value, (time_ns - sample.time_ns) / NS_PER_S)
    share = _share(before, after, time_ns)
    one, other = before.value, after.value
    across = (other.longitude - one.longitude + 180) % 360 - 180
    return Position(
        one.latitude + share * (other.latitude - one.latitude),
        (one.longitude + share * across + 180) % 360 - 180,
        _mixed(one.altitude_m, other.altitude_m, share),
        _mixed(one.height_m, other.height_m, share),
        one.velocity if share < 0.5 else other.velocity,
    )


def _moved(value: Position, seconds: float) -> Position:
    north, east, down = (speed * seconds for speed in value.velocity)
    latitude, longitude = LocalFrame(value.latitude, value.longitude).degrees(east, north)
    altitude_m = None if value.altitude_m is None else value.altitude_m - down
    height_m = None if value.height_m is None else value.height_m - down
    return Position(latitude, longitude, altitude_m, height_m, value.velocity)


def _gimbal_at(pair: "_Pair[GimbalAttitude]", time_ns: int) -> GimbalAttitude:
    before, after = pair
    if before is None or after is None or before.value.from_nose != after.value.from_nose:
        return _only(pair).value
    share = _share(before, after, time_ns)
    return GimbalAttitude(between(before.value.quaternion, after.value.quaternion, share), before.value.from_nose)


def _linear(pair: "_Pair[float]", time_ns: int) -> float:
    before, after = pair
    if before is None or after is None:
        return _only(pair).value
    return before.value + _share(before, after, time_ns) * (after.value - before.value)


def _mixed(one: float | None, other: float | None, share: float) -> float | None:
    return None if one is None or other is None else one + share * (other - one)
