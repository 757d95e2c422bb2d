"""MAVLink from a vehicle to the pose of the aircraft, over bad links and real wires, and what is told to a ground station."""

import math
import os
import pty
import random
import socket
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepose.config.aircraft import FlightConfig, FlightReportConfig, MavlinkConfig, MountConfig
from edgepose.config.schema import CameraConfig, Config
from edgepose.earth import LocalFrame
from edgepose.errors import ConfigError
from edgepose.flight.history import AircraftPose, TelemetryHistory
from edgepose.flight.mavlink.library import load_dialect, open_codec
from edgepose.flight.mavlink.reader import MavlinkReader
from edgepose.flight.rotations import yaw_of
from edgepose.flight.service import FlightService, FlightStats
from edgepose.frame import NS_PER_S
from edgepose.ground import Aircraft, GroundPlace
from edgepose.person import Person
from testing.flight import vehicle
from testing.flight.bad_link import BadLink
from testing.flight.sender import FlyingVehicle, VehiclePackets, free_udp_port
from testing.waiting import wait_for

pytestmark = pytest.mark.needs("pymavlink")

KEY = bytes(range(32))


def errors(pose: AircraftPose, now_s: float) -> tuple[float, float, float]:
    """Return meters sideways, meters of height and degrees of heading between a pose and the truth."""
    assert pose.latitude is not None
    assert pose.longitude is not None
    latitude, longitude, height = vehicle.place(now_s)
    heading = vehicle.path(now_s)[5]
    off = LocalFrame(latitude, longitude).meters(pose.latitude, pose.longitude)
    turn = (math.degrees(yaw_of(pose.attitude.quaternion)) - heading + 180) % 360 - 180
    return math.hypot(*off), abs(pose.height_m - height), abs(turn)


def deliver(hz: float, seconds: float, restart_s: float | None, loss: float, seed: int) -> list[tuple[float, bytes]]:
    """Return arrival times and packets of a flight over a link that loses, delays by up to 0.3 s, reorders and repeats."""
    rng = random.Random(seed)
    packets = VehiclePackets(started_s=-500.0)
    arrivals: list[tuple[float, bytes]] = []
    restarted = False
    for step in range(int(seconds * hz)):
        now_s = step / hz
        if restart_s is not None and restart_s <= now_s < restart_s + 1.5:
            continue
        if restart_s is not None and now_s >= restart_s and not restarted:
            packets, restarted = VehiclePackets(started_s=now_s), True
        sent = [packets.attitude(now_s), packets.position(now_s)]
        if step % max(1, int(hz)) == 0:
            sent.append(packets.heartbeat())
        for data in sent:
            for _ in range(2 if rng.random() < 0.1 else 1):
                if rng.random() >= loss:
                    arrivals.append((now_s + 0.01 + (rng.uniform(0, 0.3) if rng.random() < 0.3 else 0.0), data))
    return sorted(arrivals)


@pytest.mark.parametrize("hz", [1, 50])
@pytest.mark.parametrize("restart_s", [None, 20.0])
def test_loss_reordering_and_a_restart_give_the_right_state_and_no_wrong_place(hz: float, restart_s: float | None) -> None:
    settings = FlightConfig(maximum_age_s=1.5)
    history = TelemetryHistory(settings)
    reader, codec = MavlinkReader(history, 0, 1, settings.height), open_codec(load_dialect(), 255, 190, None)
    arrivals = deliver(hz, 60, restart_s, loss=0.2, seed=11)
    states: dict[str, int] = {}
    known_s = 0.0
    for frame in range(0, 600):
        now_s = 0.1 * frame
        while arrivals and arrivals[0][0] <= now_s:
            at_s, data = arrivals.pop(0)
            for message in codec.parse_buffer(data):
                reader.take(message, round(at_s * NS_PER_S))
        captured_s = now_s - 0.1
        pose = history.pose(round(captured_s * NS_PER_S), gimbal=False)
        state = "ok" if isinstance(pose, AircraftPose) else pose
        states[state] = states.get(state, 0) + 1
        if isinstance(pose, AircraftPose):
            known_s = captured_s
            sideways, height, turn = errors(pose, captured_s)
            assert sideways < 0.1 + 0.6 * pose.age_s, (captured_s, pose.age_s)
            assert height < 0.05 + 0.5 * pose.age_s
            assert turn < 0.3 + 4 * pose.age_s
        if restart_s is not None and restart_s + 1.6 < captured_s < restart_s + 1.9:
            assert state != "ok"
    assert set(states) <= {"ok", "no_telemetry", "no_position", "no_attitude", "stale"}
    assert states["ok"] > (400 if hz == 1 else 540)
    assert known_s > 55
    assert reader.restarts == (restart_s is not None)
    assert reader.lost > 0


def test_other_systems_and_ground_stations_are_not_the_vehicle() -> None:
    history = TelemetryHistory(FlightConfig())
    reader, codec = MavlinkReader(history, 0, 1, "home"), open_codec(load_dialect(), 255, 190, None)
    ground_station = load_dialect().MAVLink_heartbeat_message(6, 8, 0, 0, 4, 3).pack(open_codec(load_dialect(), 255, 1, None))
    mine, other = VehiclePackets(0.0), VehiclePackets(0.0, system=9)
    for data in (ground_station, mine.heartbeat(), other.heartbeat(), other.attitude(5.0), other.position(5.0)):
        for message in codec.parse_buffer(data):
            reader.take(message, 5 * NS_PER_S)
    assert reader.system_id == vehicle.SYSTEM
    assert history.pose(5 * NS_PER_S, gimbal=False) == "no_telemetry"


def test_a_receiver_without_a_fix_gives_no_position() -> None:
    history = TelemetryHistory(FlightConfig())
    reader, codec = MavlinkReader(history, vehicle.SYSTEM, 1, "home"), open_codec(load_dialect(), 255, 190, None)
    packets = VehiclePackets(0.0)
    no_fix = packets.packed(load_dialect().MAVLink_gps_raw_int_message(0, 1, 0, 0, 0, 0, 0, 0, 0, 3))
    for data in (no_fix, packets.attitude(5.0), packets.position(5.0)):
        for message in codec.parse_buffer(data):
            reader.take(message, 5 * NS_PER_S)
    assert history.pose(5 * NS_PER_S, gimbal=False) == "no_position"
    assert history.dropped["no_fix"] == 1


@pytest.mark.parametrize(("flags", "from_nose"), [(0, True), (16, False), (32, True), (64, False), (48, True)])
def test_the_gimbal_says_against_what_its_yaw_counts(flags: int, from_nose: bool) -> None:
    history = TelemetryHistory(FlightConfig())
    reader, codec = MavlinkReader(history, vehicle.SYSTEM, 1, "home"), open_codec(load_dialect(), 255, 190, None)
    packets = VehiclePackets(0.0)
    down = [math.cos(math.pi / 4), 0.0, -math.sin(math.pi / 4), 0.0]
    message = load_dialect().MAVLink_gimbal_device_attitude_status_message(0, 0, 5000, flags, down, 0, 0, 0, 0)
    gimbal = message.pack(open_codec(load_dialect(), vehicle.SYSTEM, 154, None))
    for data in (packets.attitude(5.0), packets.position(5.0), gimbal):
        for decoded in codec.parse_buffer(data):
            reader.take(decoded, 5 * NS_PER_S)
    pose = history.pose(5 * NS_PER_S, gimbal=True)
    assert isinstance(pose, AircraftPose)
    assert pose.gimbal is not None
    assert pose.gimbal.from_nose == from_nose
    assert pose.gimbal.quaternion == pytest.approx(tuple(down))


def service(address: str, report: FlightReportConfig | None = None, key: Path | None = None) -> FlightService:
    """Return a service that listens."""
    link = MavlinkConfig(address=address, signing_key_file=None if key is None else str(key))
    flight = FlightConfig(source="mavlink", mavlink=link, report=report or FlightReportConfig())
    started = FlightService(Config(cameras={"a": CameraConfig(source="x", mount=MountConfig(field_of_view_deg=60))}, flight=flight))
    started.start()
    return started


def stats(flying: FlightService) -> FlightStats:
    found = flying.stats()
    assert found is not None
    return found


def state(flying: FlightService) -> str:
    return stats(flying).state


def test_a_vehicle_on_a_bad_udp_link_that_breaks_and_comes_back() -> None:
    port = free_udp_port()
    flying = service(f"udpin://127.0.0.1:{port}")
    try:
        assert state(flying) == "no_telemetry"
        with BadLink(port, loss=0.2, late=0.3, repeated=0.1) as link, FlyingVehicle(link.port, 50):
            wait_for(lambda: state(flying) == "ok")
            link.passes = False
            wait_for(lambda: state(flying) == "stale")
            link.passes = True
            wait_for(lambda: state(flying) == "ok")
            wait_for(lambda: stats(flying).dropped.get("duplicate", 0) > 0)
    finally:
        flying.close()


def test_packets_without_a_valid_signature_are_dropped(tmp_path: Path) -> None:
    key, port = tmp_path / "key", free_udp_port()
    key.write_text(KEY.hex())
    flying = service(f"udpin://127.0.0.1:{port}", key=key)
    try:
        with FlyingVehicle(port, 50, key=bytes(32)):
            wait_for(lambda: stats(flying).dropped.get("malformed", 0) > 10)
        assert state(flying) == "no_telemetry"
        with FlyingVehicle(port, 50, key=KEY):
            wait_for(lambda: state(flying) == "ok")
    finally:
        flying.close()
    key.write_text("00")
    with pytest.raises(ConfigError, match="expected 32 bytes"):
        service(f"udpin://127.0.0.1:{port}", key=key)


def test_a_serial_line_and_a_tcp_connection_carry_the_same_packets() -> None:
    master, slave = pty.openpty()
    server = socket.create_server(("127.0.0.1", 0))
    flying = [service(f"serial://{os.ttyname(slave)}:57600"), service(f"tcpout://127.0.0.1:{server.getsockname()[1]}")]
    ending = threading.Event()

    def fly() -> None:
        connection, _ = server.accept()
        packets = VehiclePackets(time.monotonic() - 10)
        with connection:
            while not ending.wait(0.02):
                now_s = time.monotonic()
                for data in (packets.heartbeat(), packets.attitude(now_s), packets.position(now_s)):
                    connection.sendall(data)
                    os.write(master, data)

    thread = threading.Thread(target=fly, daemon=True)
    thread.start()
    try:
        wait_for(lambda: [state(each) for each in flying] == ["ok", "ok"])
        ending.set()
        thread.join(10)
        wait_for(lambda: stats(flying[1]).failure is not None)
    finally:
        ending.set()
        for each in flying:
            each.close()
        server.close()
        os.close(slave)
        os.close(master)


def test_people_and_health_reach_a_ground_station_and_nothing_is_a_command() -> None:
    port = free_udp_port()
    ground_station = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ground_station.bind(("127.0.0.1", 0))
    ground_station.settimeout(0.2)
    address = f"udpout://127.0.0.1:{ground_station.getsockname()[1]}"
    flying = service(f"udpin://127.0.0.1:{port}", FlightReportConfig(heartbeat=True, people_address=address))
    spot = GroundPlace(3.0, 4.0, 2.5, 47.3981, 8.5467, speed_mps=1.5, course_deg=90.0)
    person = Person(np.array([1, 2, 3, 4], np.float32), 0.9, np.zeros((17, 3), np.float32), track=12, ground=spot)
    told = Aircraft("ok", ground_altitude_m=488.0)
    kinds: dict[str, object] = {}
    codec = open_codec(load_dialect(), 255, 190, None)

    def heard(receiver: socket.socket) -> None:
        try:
            for message in codec.parse_buffer(receiver.recv(65_536)) or []:
                kinds[f"{message.get_type()}/{message.get_srcSystem()}/{message.get_srcComponent()}"] = message
        except TimeoutError:
            return

    try:
        with FlyingVehicle(port, 20) as drone:
            drone.socket.settimeout(0.2)
            flying.tell_health(["throttled"], works=True)

            def told_all() -> bool:
                flying.tell_people("a", told, [person])
                heard(ground_station)
                heard(drone.socket)
                return {"ADSB_VEHICLE/7/191", "HEARTBEAT/7/191", "STATUSTEXT/7/191"} <= set(kinds)

            wait_for(told_all)
    finally:
        flying.close()
        ground_station.close()
    assert {kind.split("/")[0] for kind in kinds} == {"ADSB_VEHICLE", "HEARTBEAT", "STATUSTEXT"}
    sent = kinds["ADSB_VEHICLE/7/191"].to_dict()  # type: ignore[attr-defined]
    assert (sent["lat"], sent["lon"], sent["altitude"]) == (473981000, 85467000, 488_000)
    assert (sent["callsign"], sent["heading"], sent["hor_velocity"]) == ("PERS12", 9000, 150)
    assert sent["ICAO_address"] >> 20 == 0xF
    assert kinds["STATUSTEXT/7/191"].text == "edgepose: throttled"  # type: ignore[attr-defined]


def test_nothing_is_sent_by_default() -> None:
    port = free_udp_port()
    flying = service(f"udpin://127.0.0.1:{port}")
    try:
        with FlyingVehicle(port, 20) as drone:
            wait_for(lambda: state(flying) == "ok")
            drone.socket.settimeout(1.5)
            with pytest.raises(TimeoutError):
                drone.socket.recv(100)
    finally:
        flying.close()


@pytest.mark.needs("mavsdk")
def test_the_vehicle_of_mavsdk_is_understood() -> None:
    port = free_udp_port()
    flying = service(f"udpin://127.0.0.1:{port}")
    with BadLink(port, loss=0.2, late=0.3, repeated=0.1) as link:
        program = [os.environ["MAVSDK_PYTHON"], vehicle.__file__, f"udpout://127.0.0.1:{link.port}", "50"]
        drone = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: state(flying) == "ok")
            assert stats(flying).restarts == 0
            drone.kill()
            drone.wait(10)
            wait_for(lambda: state(flying) == "stale")
            drone = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: state(flying) == "ok")
        finally:
            drone.kill()
            drone.wait(10)
            flying.close()


def test_the_configuration_names_what_does_not_go_together() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"address": "udp:0.0.0.0:14550"}, MavlinkConfig)
