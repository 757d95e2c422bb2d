"""MAVLink packets as samples of a `TelemetryHistory`."""

import math
from collections import Counter, defaultdict
from typing import Any

from edgepose.flight.boot_clock import BootClock
from edgepose.flight.history import Attitude, GimbalAttitude, Position, TelemetryHistory
from edgepose.flight.rotations import normalized, quaternion

_NO_AUTOPILOT = 8  # MAV_AUTOPILOT_INVALID: of ground stations, cameras and computers
_FIX_3D = 3  # GPS_FIX_TYPE_3D_FIX
_OVERTAKEN = 64  # packets that may overtake one; farther back is another start
_DOWN = 25  # MAV_SENSOR_ROTATION_PITCH_270
_YAW_IN_EARTH_FRAME, _YAW_IN_VEHICLE_FRAME, _YAW_LOCK = 64, 32, 16  # GIMBAL_DEVICE_FLAGS


class MavlinkReader:
    """The reader of one vehicle's packets.

    Args:
        history: receives the samples.
        system_id: of the vehicle; 0 takes the first autopilot that sends a heartbeat.
        component_id: of the autopilot.
        height: key `flight.height`: which of the distances to the ground are samples.

    Attributes:
        system_id: 0 until a vehicle is found.
        packets: packets of the vehicle so far.
        lost: packets that never came, by their numbers.
        battery: share that remains, 0 to 1; None where the vehicle does not say.
        battery_low: whether the vehicle itself calls the charge low.
    """

    def __init__(self, history: TelemetryHistory, system_id: int, component_id: int, height: str) -> None:
        self._history = history
        self._component_id = component_id
        self._height = height
        self._clocks: defaultdict[int, BootClock] = defaultdict(BootClock)  # by component: a gimbal starts at another time
        self._last_numbers: dict[int, int] = {}
        self._has_fix = True  # of vehicles that do not say
        self.system_id = system_id
        self.packets = 0
        self.lost = 0
        self.battery: float | None = None

    @property
    def restarts(self) -> int:
        """How often the vehicle has started again."""
        return self._clocks[self._component_id].restarts

    @property
    def dropped(self) -> Counter[str]:
        """What did not become a sample, by cause."""
        return self._history.dropped

    def take(self, message: Any, arrival_ns: int) -> None:
        """Take one decoded packet.

        Args:
            message: of pymavlink.
            arrival_ns: monotonic clock.
        """
        kind, system, component = message.get_type(), message.get_srcSystem(), message.get_srcComponent()
        if self.system_id == 0 and kind == "HEARTBEAT" and message.autopilot != _NO_AUTOPILOT and component == self._component_id:
            self.system_id = system
        if system != self.system_id or self.system_id == 0:
            return
        self.packets += 1
        self._count_lost(component, message.get_seq())
        if component != self._component_id and kind not in ("MOUNT_ORIENTATION", "GIMBAL_DEVICE_ATTITUDE_STATUS"):
            return
        take = getattr(self, f"_take_{kind.lower()}", None)
        if take is not None:
            take(message, arrival_ns)

    def _time_ns(self, message: Any, arrival_ns: int) -> int | None:
        """Return the time of a packet on the monotonic clock; None, and counted, where it is of another start of its sender."""
        time_ns, begins = self._clocks[message.get_srcComponent()].time_ns(message.time_boot_ms * 1_000_000, arrival_ns)
        if begins and message.get_srcComponent() == self._component_id:
            self._history.clear()
            self._has_fix = True
            self._last_numbers.clear()
        if time_ns is None:
            self.dropped["other_start"] += 1
        return time_ns

    def _take_attitude(self, message: Any, arrival_ns: int) -> None:
        time_ns = self._time_ns(message, arrival_ns)
        if time_ns is not None:
            rates = (message.rollspeed, message.pitchspeed, message.yawspeed)
            self._history.add_attitude(time_ns, Attitude(quaternion(message.roll, message.pitch, message.yaw), _finite(rates)))

    def _take_attitude_quaternion(self, message: Any, arrival_ns: int) -> None:
        values = normalized((message.q1, message.q2, message.q3, message.q4))
        time_ns = self._time_ns(message, arrival_ns)
        if values is None:
            self.dropped["not_a_number"] += 1
        elif time_ns is not None:
            self._history.add_attitude(time_ns, Attitude(values, _finite((message.rollspeed, message.pitchspeed, message.yawspeed))))

    def _take_global_position_int(self, message: Any, arrival_ns: int) -> None:
        time_ns = self._time_ns(message, arrival_ns)
        if time_ns is None:
            return
        if not self._has_fix:
            self.dropped["no_fix"] += 1
            return
        velocity = (message.vx / 100, message.vy / 100, message.vz / 100)
        self._history.add_position(
            time_ns, Position(message.lat / 1e7, message.lon / 1e7, message.alt / 1e3, message.relative_alt / 1e3, velocity)
        )

    def _take_gps_raw_int(self, message: Any, _: int) -> None:
        self._has_fix = message.fix_type == 0 or message.fix_type >= _FIX_3D  # 0: no receiver; another estimator has the position

    def _take_distance_sensor(self, message: Any, arrival_ns: int) -> None:
        if self._height != "rangefinder" or message.orientation != _DOWN:
            return
        time_ns = self._time_ns(message, arrival_ns)
        if not message.min_distance <= message.current_distance < message.max_distance:
            self.dropped["out_of_range"] += 1
        elif time_ns is not None:
            self._history.add_clearance(time_ns, message.current_distance / 100)

    def _take_terrain_report(self, message: Any, arrival_ns: int) -> None:
        if self._height != "terrain":
            return
        if message.loaded == 0:
            self.dropped["out_of_range"] += 1
        else:
            self._history.add_clearance(arrival_ns, message.current_height)

    def _take_mount_orientation(self, message: Any, arrival_ns: int) -> None:
        time_ns = self._time_ns(message, arrival_ns)
        absolute = math.isfinite(message.yaw_absolute)
        yaw = message.yaw_absolute if absolute else message.yaw
        if time_ns is not None:
            turned = quaternion(*(math.radians(angle) for angle in (message.roll, message.pitch, yaw)))
            self._history.add_gimbal(time_ns, GimbalAttitude(turned, from_nose=not absolute))

    def _take_gimbal_device_attitude_status(self, message: Any, arrival_ns: int) -> None:
        values = normalized(tuple(message.q))
        time_ns = self._time_ns(message, arrival_ns)
        if values is None:
            self.dropped["not_a_number"] += 1
        elif time_ns is not None:
            flags = message.flags
            locked = bool(flags & _YAW_LOCK) and not flags & _YAW_IN_VEHICLE_FRAME  # before both flags existed, the lock said it
            self._history.add_gimbal(time_ns, GimbalAttitude(values, from_nose=not (flags & _YAW_IN_EARTH_FRAME or locked)))

    def _take_sys_status(self, message: Any, _: int) -> None:
        self.battery = None if message.battery_remaining < 0 else message.battery_remaining / 100

    def _count_lost(self, component: int, number: int) -> None:
        last = self._last_numbers.get(component)
        self._last_numbers[component] = number
        if last is None:
            return
        step = (number - last) % 256
        if 1 < step < 256 - _OVERTAKEN:
            self.lost += step - 1
        elif step >= 256 - _OVERTAKEN:  # it was overtaken, and counted as lost
            self.lost = max(0, self.lost - 1)
            self._last_numbers[component] = last


def _finite(rates: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return rates, or no rotation where the vehicle does not measure them."""
    return rates if all(map(math.isfinite, rates)) else (0.0, 0.0, 0.0)
