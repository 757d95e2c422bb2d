"""A daemon that is told to read its configuration again, that hangs, and that is not alone."""

import getpass
import json
import signal
import socket
import time
from pathlib import Path

from testing.onnx_files import write_edgepose
from testing.servers.daemon import Daemon, Listener, configuration, running
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for

HANGING = ("-m", "testing.servers.hanging_engine")


def test_only_what_changed_is_touched(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    first = configuration(tmp_path, broker, {"front": camera.url(), "rear": "rtsp://127.0.0.1:1/cam"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(120)
        with running(tmp_path, broker, first, NOTIFY_SOCKET=str(tmp_path / "notify")) as (daemon, heard):
            wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
            wait_for(lambda: manager.recv(1000) == b"READY=1")

            poses = tmp_path / "poses.jsonl"
            second = configuration(tmp_path, broker, {"front": camera.url(), "left": camera.url()}, f"files: {{jsonl: {poses}}}\n")
            daemon.reload(second)
            wait_for(lambda: heard.on("cameras/left/poses"), within_s=20)
            told = [manager.recv(1000) for _ in range(20)]
            begun = next(state for state in told if state.startswith(b"RELOADING=1\nMONOTONIC_USEC="))
            assert 0 < time.monotonic_ns() / 1e3 - int(begun.rpartition(b"=")[2]) < 60e6
            assert b"READY=1" in told[told.index(begun) :]
            assert [message["epoch"] for message in heard.on("cameras/front/status")] == [0, 0]  # connecting, streaming: never opened again
            wait_for(lambda: heard.on("cameras/rear/status")[-1] is None)  # nothing is said of a camera that is no more
            wait_for(lambda: {camera["name"] for camera in heard.on("info")[-1]["cameras"]} == {"front", "left"})
            wait_for(lambda: poses.exists() and poses.read_text().count("\n") > 3)
            assert len({message["session"] for message in heard.on("status")}) == 1

            write_edgepose(tmp_path / "other.onnx", metadata={"edgepose.license": "another"})
            daemon.reload(second.replace("tiny.onnx", "other.onnx"))
            wait_for(lambda: heard.on("info")[-1]["model"]["name"] == "other.onnx", within_s=20)
            seen = len(heard.on("cameras/front/poses"))
            wait_for(lambda: len(heard.on("cameras/front/poses")) > seen + 3)
            assert heard.on("cameras/front/status")[-1]["epoch"] == 0
            health = wait_for(lambda: [message for message in heard.on("health") if "left" in message["cameras"]])[-1]
            assert health["cameras"]["front"]["drops"].get("engine_failed", 0) == 0


def test_a_bad_file_is_refused_as_a_whole(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    good = configuration(tmp_path, broker, {"front": camera.url()})
    with running(tmp_path, broker, good) as (daemon, heard):
        wait_for(lambda: heard.on("cameras/front/poses") and heard.on("health"), within_s=20)
        for bad, why in (
            (good + "pose: {score_threshold: 7}\n", "pose.score_threshold is 7"),
            (good.replace("tiny.onnx", "none.onnx"), "none.onnx"),
            (good.replace("front:", "rear:") + "files: {jsonl: /nowhere/at/all.jsonl}\n", "/nowhere/at/all.jsonl"),
            (good.replace("front:", "rear:").replace(camera.url(), "nothere.avi"), "nothere.avi does not exist; expected a video file"),
            (good + f"black_box: {{path: {tmp_path / 'daemon.log'}}}\n", "daemon.log is not a folder"),
            (good + "commands: {enabled: true, audit: tiny.onnx}\n", "tiny.onnx is the model and would be overwritten"),
            ("{", "not valid YAML"),
        ):
            daemon.reload(bad)
            wait_for(lambda: why in heard.on("health")[-1].get("reload_refused", ""), within_s=20)  # noqa: B023
        log = daemon.log.read_text()
        assert log.count("is refused, and the old one stays") == 7
        assert "Traceback" not in log
        daemon.reload(good)
        wait_for(lambda: "reload_refused" not in heard.on("health")[-1])
        seen = len(heard.on("cameras/front/poses"))
        wait_for(lambda: len(heard.on("cameras/front/poses")) > seen + 3)
        assert {message["epoch"] for message in heard.on("cameras/front/status")} == {0}
        assert len(heard.on("status")) == 1


def test_another_broker_is_greeted_and_the_old_one_hears_goodbye(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    (tmp_path / "other").mkdir()

    def config(at: Mosquitto, in_frame: str, on_map: str) -> str:
        """A camera on a mast, with a zone in its frame and one on the map."""
        corners = [[8.0, 47.0], [8.001, 47.0], [8.001, 47.001]]
        feature = {
            "type": "Feature",
            "properties": {"name": on_map},
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        }
        places = tmp_path / f"{on_map}.geojson"
        places.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
        camera_lines = f"front: {{zones: {{{in_frame}: [[0, 0], [1, 0], [1, 1]]}}, mount: {{field_of_view_deg: 60, pitch_deg: -20}}, "
        flight = f"flight: {{source: fixed, fixed: {{height_m: 6}}, places_file: {places}}}\n"
        mqtt = ", home_assistant: {enabled: true}"
        return configuration(tmp_path, at, {"front": camera.url()}, flight, mqtt).replace("front: {", camera_lines)

    def zones(listener: Listener, *names: str) -> list[int | None]:
        """Return how many people a broker last heard of in each zone: None of one that was cleared, -1 of one that was never there."""
        said = [listener.on(f"cameras/front/zones/{name}/occupancy") for name in names]
        return [-1 if not of_zone else None if of_zone[-1] is None else of_zone[-1]["count"] for of_zone in said]

    with (
        Mosquitto(tmp_path / "other") as other,
        running(tmp_path, broker, config(broker, "door", "meadow")) as (daemon, heard),
    ):
        wait_for(lambda: heard.on("cameras/front/poses"), within_s=20)
        wait_for(lambda: zones(heard, "door", "meadow") == [0, 0])
        listener, home = Listener(other.port), Listener(broker.port, "homeassistant")

        def announced(zone: str) -> bool:
            said = home.on(f"sensor/drone/edgepose__front__zone__{zone}__people/config")
            return bool(said and said[-1])

        try:
            wait_for(lambda: announced("door") and announced("meadow"))
            daemon.reload(config(other, "gate", "pasture"))
            wait_for(lambda: heard.on("status")[-1]["state"] == "stopped")
            assert zones(heard, "door", "meadow", "gate", "pasture") == [None, None, -1, -1]
            wait_for(lambda: not announced("door") and not announced("meadow"))
            wait_for(lambda: listener.on("status"))
            wait_for(lambda: listener.on("cameras/front/poses"))
            wait_for(lambda: listener.on("cameras/front/status"))  # said again, though nothing has changed
            assert listener.on("info")
            assert listener.on("cameras/front/status")[0]["epoch"] == 0
            wait_for(lambda: zones(listener, "gate", "pasture", "door", "meadow") == [0, 0, -1, -1])
        finally:
            listener.close()
            home.close()


def test_an_engine_that_hangs_is_told_and_ends_the_daemon(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    config = configuration(tmp_path, broker, {"front": camera.url()}, "health: {interval_s: 0.3, stuck_after_s: 1.5}\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000", "HANG": str(tmp_path / "hang")}
        with running(tmp_path, broker, config, HANGING, **variables) as (daemon, heard):
            wait_for(lambda: heard.on("cameras/front/poses") and heard.on("health"), within_s=20)
            (tmp_path / "hang").touch()
            wait_for(lambda: "stuck:inference" in heard.on("health")[-1]["degraded"])
            while True:  # what was said until now
                try:
                    manager.recv(1000)
                except BlockingIOError:
                    break
            assert daemon.process.wait(60) == 70
            said = []
            while True:
                try:
                    said.append(manager.recv(1000))
                except BlockingIOError:
                    break
            assert b"WATCHDOG=1" not in said  # nothing feeds the watchdog while the engine hangs
            wait_for(lambda: heard.on("status")[-1]["state"] == "stopped")
            assert "inference hangs at hanging_engine.py" in heard.on("status")[-1]["reason"]
            log = daemon.log.read_text()
            assert log.count("inference is stuck") == 1
            assert "Traceback" not in log


def test_a_second_daemon_of_one_name_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    config = configuration(tmp_path, broker, {"front": "rtsp://127.0.0.1:1/cam"})
    with running(tmp_path, broker, config) as (first, heard):
        wait_for(lambda: heard.on("status"), within_s=20)
        (tmp_path / "second").mkdir()
        second = Daemon(tmp_path / "second", config, {})
        assert second.process.wait(30) == 69
        line = second.log.read_text().strip().splitlines()[-1]
        assert (
            f"another edgepose (process {first.process.pid} of user {getpass.getuser()}) on this machine publishes edgepose/drone" in line
        )
        assert heard.on("status")[-1]["state"] == "online"
        assert first.terminate(within_s=10) == 0
        third = Daemon(tmp_path / "second", config, {})
        try:
            wait_for(lambda: heard.on("status")[-1]["state"] == "online", within_s=20)
        finally:
            third.process.kill()
            third.process.wait(60)


def test_sigterm_is_quick_though_everything_around_is_frozen(tmp_path: Path, broker: Mosquitto, camera: RtspServer) -> None:
    poses = tmp_path / "poses.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        mute = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam"
        cameras = {"front": camera.url(), "rear": mute, "left": mute}
        config = configuration(tmp_path, broker, cameras, f"files: {{jsonl: {poses}}}\n")
        with running(tmp_path, broker, config) as (daemon, heard):
            wait_for(lambda: heard.on("cameras/front/poses"), within_s=30)
            camera.freeze()
            broker.freeze()
            began_s = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(60) == 0
            assert in_time(time.monotonic() - began_s, 6)  # three seconds of its own, on a machine that has others to serve
            broker.thaw()


def test_a_second_daemon_elsewhere_is_noticed_through_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    config = configuration(tmp_path, broker, {"front": "rtsp://127.0.0.1:1/cam"})
    with running(tmp_path, broker, config) as (first, heard):
        wait_for(lambda: heard.on("status") and heard.on("health"), within_s=20)
        (tmp_path / "second").mkdir()
        # Under another name of the broker the two cannot know of each other, as on two machines.
        second = Daemon(tmp_path / "second", config.replace("host: 127.0.0.1", "host: localhost"), {})
        try:
            wait_for(lambda: len({message["session"] for message in heard.on("status")}) == 2, within_s=20)
            sessions = {message["session"] for message in heard.on("status")}
            wait_for(lambda: {message.get("duplicate_session") for message in heard.on("health")} >= sessions)  # each names the other
            assert "another daemon publishes under edgepose/drone as well" in first.log.read_text()
        finally:
            second.process.kill()
            second.process.wait(60)
