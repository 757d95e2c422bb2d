"""Telemetry at the time of a frame: interpolated, extrapolated, too old, incomplete; a vehicle that starts again; packets in any order."""

import math
import random

import pytest

from edgepose.config.aircraft import FlightConfig
from edgepose.flight.boot_clock import BootClock
from edgepose.flight.history import AircraftPose, Attitude, GimbalAttitude, Position, TelemetryHistory
from edgepose.flight.rotations import quaternion, yaw_of

S = 1_000_000_000


def filled(hz: float = 10, seconds: float = 5, settings: FlightConfig | None = None) -> TelemetryHistory:
    """Return the history of a flight north at 10 m/s that turns right by 20 degrees a second and climbs by 1 m/s."""
    history = TelemetryHistory(settings or FlightConfig())
    for step in range(int(seconds * hz) + 1):
        t = step / hz
        yaw = math.radians(20 * t)
        history.add_attitude(int(t * S), Attitude(quaternion(0, 0, yaw), (0, 0, math.radians(20))))
        latitude = 47 + 10 * t / 111_194
        history.add_position(int(t * S), Position(latitude, 8, 500 + t, 30 + t, (10, 0, -1)))
    return history


def pose(history: TelemetryHistory, at_s: float) -> AircraftPose:
    found = history.pose(int(at_s * S), gimbal=False)
    assert isinstance(found, AircraftPose), found
    return found


@pytest.mark.parametrize("hz", [1, 10, 50])
def test_between_two_samples_the_pose_is_interpolated(hz: float) -> None:
    found = pose(filled(hz), 2.37)
    assert math.degrees(yaw_of(found.attitude.quaternion)) == pytest.approx(47.4, abs=0.01)
    assert found.height_m == pytest.approx(32.37)
    assert found.latitude == pytest.approx(47 + 23.7 / 111_194, abs=1e-8)
    assert found.age_s <= 0.5 / hz + 1e-6


def test_after_the_last_sample_the_pose_goes_on_at_its_rates_until_it_is_stale() -> None:
    history = filled()
    found = pose(history, 5.5)
    assert math.degrees(yaw_of(found.attitude.quaternion)) == pytest.approx(110, abs=0.01)
    assert (found.height_m, found.age_s) == (pytest.approx(35.5), pytest.approx(0.5))
    assert history.pose(int(6.01 * S), gimbal=False) == "stale"
    assert history.pose(-2 * S, gimbal=False) == "stale"


def test_what_is_missing_has_a_name() -> None:
    history = TelemetryHistory(FlightConfig())
    assert history.pose(0, gimbal=False) == "no_telemetry"
    history.add_position(0, Position(47, 8, height_m=30))
    assert history.pose(0, gimbal=False) == "no_attitude"
    history.add_attitude(0, Attitude(quaternion(0, 0, 0)))
    assert history.pose(0, gimbal=True) == "no_gimbal"
    history.add_gimbal(0, GimbalAttitude(quaternion(0, -1, 0), from_nose=True))
    assert isinstance(history.pose(0, gimbal=True), AircraftPose)
    history.clear()
    assert history.pose(0, gimbal=False) == "no_telemetry"
    history.add_attitude(0, Attitude(quaternion(0, 0, 0)))
    assert history.pose(0, gimbal=False) == "no_position"
    history.add_position(0, Position(47, 8))
    assert history.pose(0, gimbal=False) == "no_height"


def test_the_height_comes_from_where_it_is_configured() -> None:
    level = FlightConfig(height="sea_level", ground_altitude_m=420)
    assert pose(filled(settings=level), 2.0).height_m == pytest.approx(82)
    ranged = filled(settings=FlightConfig(height="rangefinder"))
    assert ranged.pose(2 * S, gimbal=False) == "no_height"
    ranged.add_attitude(int(2.05 * S), Attitude(quaternion(0, math.radians(60), 0)))
    ranged.add_clearance(int(2.05 * S), 40.0)
    assert pose(ranged, 2.05).height_m == pytest.approx(20)  # the beam is tilted with the body
    assert ranged.pose(int(3.5 * S), gimbal=False) == "stale"  # of the clearance, though the attitude is fresh


def test_impossible_values_and_duplicates_are_dropped_and_counted() -> None:
    history = filled(seconds=1)
    history.add_attitude(3 * S, Attitude((math.nan, 0, 0, 0)))
    history.add_position(3 * S, Position(0, 0, height_m=10))
    history.add_position(3 * S, Position(95, 0, height_m=10))
    history.add_position(1 * S, Position(47, 8, height_m=99))
    assert dict(history.dropped) == {"not_a_number": 1, "no_fix": 2, "duplicate": 1}
    assert pose(history, 1.0).height_m == pytest.approx(31)


def test_packets_in_any_order_give_the_same_pose() -> None:
    ordered, shuffled = filled(), TelemetryHistory(FlightConfig())
    steps = list(range(51))
    random.Random(3).shuffle(steps)
    for step in steps:
        t = step / 10
        shuffled.add_attitude(int(t * S), Attitude(quaternion(0, 0, math.radians(20 * t)), (0, 0, math.radians(20))))
        shuffled.add_position(int(t * S), Position(47 + 10 * t / 111_194, 8, 500 + t, 30 + t, (10, 0, -1)))
    assert pose(shuffled, 3.33) == pose(ordered, 3.33)


def test_the_boot_clock_takes_late_packets_at_their_own_time() -> None:
    clock = BootClock()
    times = [clock.time_ns(step * S // 10, 100 * S + step * S // 10 + late)[0] for step, late in enumerate((0, S, 0, 5 * S // 10, 0))]
    assert times == pytest.approx([100 * S + step * S // 10 for step in range(5)], abs=S // 1000)


def test_a_vehicle_has_started_again_when_several_packets_say_so_for_half_a_second() -> None:
    clock = BootClock()
    for step in range(50):
        clock.time_ns(500 * S + step * S // 10, 1000 * S + step * S // 10)
    now = 1010 * S
    assert clock.time_ns(1 * S, now) == (None, False)
    assert clock.time_ns(502 * S, now + S // 100)[0] is None  # an old packet that is late is no evidence for either
    assert clock.time_ns(1 * S + S // 10, now + S // 10) == (None, False)
    assert clock.time_ns(1 * S + S * 3 // 10, now + S * 3 // 10) == (None, False)
    assert clock.time_ns(1 * S + S * 7 // 10, now + S * 7 // 10) == (now + S * 7 // 10, True)
    assert clock.restarts == 1
    assert clock.time_ns(505 * S, now + S) == (None, False)  # of the start before
    assert clock.time_ns(3 * S, now + 2 * S) == (now + 2 * S, False)


def test_one_packet_of_long_ago_does_not_move_the_clock() -> None:
    clock = BootClock()
    for step in range(100):
        arrival = 50 * S + step * S // 50
        assert clock.time_ns(10 * S + step * S // 50, arrival)[0] == pytest.approx(arrival, abs=S // 1000)
        if step % 10 == 5:
            assert clock.time_ns(3 * S, arrival + 1)[0] is None
    assert clock.restarts == 0


def test_a_vehicle_that_starts_again_after_a_second_is_noticed() -> None:
    clock = BootClock()
    for step in range(10):
        clock.time_ns(step * S // 10, 100 * S + step * S // 10)
    again = [clock.time_ns(step * S // 10, 104 * S + step * S // 10) for step in range(10)]
    assert again[-1] == (104 * S + 9 * S // 10, False)
    assert clock.restarts == 1


def test_a_link_that_has_become_slow_gives_old_samples_and_no_restart() -> None:
    clock = BootClock()
    for step in range(100):
        clock.time_ns(20 * S + step * S // 10, 100 * S + step * S // 10)
    late = [clock.time_ns(30 * S + step * S // 10, 115 * S + step * S // 10)[0] for step in range(100)]
    assert late == pytest.approx([110 * S + step * S // 10 for step in range(100)], abs=S // 100)
    assert clock.restarts == 0
