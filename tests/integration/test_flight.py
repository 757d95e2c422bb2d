"""A daemon on an aircraft: places from MAVLink, named states when the vehicle is silent, places on the map at a reload, and a topic."""

import json
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from testing.flight import vehicle
from testing.flight.sender import FlyingVehicle, free_udp_port
from testing.servers.daemon import configuration, running
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.waiting import wait_for

pytestmark = pytest.mark.needs("pymavlink")

MOUNT = "mount: {field_of_view_deg: 60, pitch_deg: -70}, "


def test_a_daemon_follows_a_vehicle_and_then_a_topic(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    port, places = free_udp_port(), tmp_path / "places.geojson"
    plain = configuration(tmp_path, broker, {"front": camera.url()}).replace("front: {", "front: {" + MOUNT)
    first = plain + f"flight: {{source: mavlink, mavlink: {{address: 'udpin://127.0.0.1:{port}'}}}}\n"
    with running(tmp_path, broker, first) as (daemon, heard):

        def state() -> str:
            poses = heard.on("cameras/front/poses")
            return str(poses[-1]["aircraft"]["state"]) if poses else ""

        wait_for(lambda: state() == "no_telemetry", within_s=20)
        with FlyingVehicle(port, 50):
            wait_for(lambda: state() == "ok")
            flown = heard.on("cameras/front/poses")[-1]["aircraft"]
            assert abs(flown["lat"] - vehicle.LATITUDE) < 0.001
            assert 20 < flown["height_m"] < 40
            wait_for(lambda: any(health["flight"]["state"] == "ok" for health in heard.on("health")))
            assert "telemetry_missing" not in heard.on("health")[-1]["degraded"]
        wait_for(lambda: state() == "stale")
        wait_for(lambda: "telemetry_missing" in heard.on("health")[-1]["degraded"])

        daemon.reload(first.replace("flight: {", f"flight: {{places_file: {places}, "))
        wait_for(lambda: "places.geojson cannot be read" in heard.on("health")[-1].get("reload_refused", ""))

        by_topic = plain + "flight: {source: mqtt, topic: aircraft/telemetry, maximum_age_s: 5}\n"
        daemon.reload(by_topic)
        wait_for(lambda: state() == "no_telemetry")
        sender = Client(CallbackAPIVersion.VERSION2)
        sender.connect("127.0.0.1", broker.port)
        sender.loop_start()
        said = json.dumps({"lat": 47.0, "lon": 8.0, "height_m": 25.0, "heading_deg": 90.0})

        def flies() -> bool:
            sender.publish("aircraft/telemetry", said)
            return state() == "ok"

        try:
            wait_for(flies, every_s=0.1)
        finally:
            sender.disconnect()
            sender.loop_stop()
        assert heard.on("cameras/front/poses")[-1]["aircraft"]["lat"] == 47.0
        assert {message["epoch"] for message in heard.on("cameras/front/status")} == {0}  # the stream was never opened again
        assert "Traceback" not in daemon.log.read_text()


def test_a_low_battery_costs_input_size_and_frames_and_never_the_poses(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    port = free_udp_port()
    config = configuration(tmp_path, broker, {"front": camera.url()})
    config += f"flight: {{source: mavlink, mavlink: {{address: 'udpin://127.0.0.1:{port}'}}}}\n"
    config += "heat: {battery_limit: 0.3, step_s: 0.5, back_s: 0.5, policy: [smaller_input, fewer_frames]}\n"
    with FlyingVehicle(port, 20) as drone, running(tmp_path, broker, config) as (daemon, heard):
        wait_for(lambda: heard.on("cameras/front/poses") and heard.on("health"), within_s=20)

        def given_up() -> list[str]:
            found = heard.on("health")[-1].get("heat", {}).get("given_up", [])
            assert isinstance(found, list)
            return found

        assert given_up() == []
        drone.battery = 0.1
        wait_for(lambda: given_up() == ["smaller_input", "fewer_frames"], within_s=15)
        assert "heat" in heard.on("health")[-1]["degraded"]
        assert heard.on("health")[-1]["heat"]["reason"] == "the battery has 10 %"
        seen = len(heard.on("cameras/front/poses"))
        wait_for(lambda: len(heard.on("cameras/front/poses")) > seen + 5)
        sequences = [message["sequence"] for message in heard.on("cameras/front/poses")[-5:]]
        assert all(sequence % 2 == 0 for sequence in sequences)
        drone.battery = 0.9
        wait_for(lambda: given_up() == [], within_s=15)
        assert heard.on("health")[-1]["cameras"]["front"]["drops"].get("engine_failed", 0) == 0
        assert heard.on("health")[-1]["cameras"]["front"]["drops"]["heat"] > 0
        assert "Traceback" not in daemon.log.read_text()
