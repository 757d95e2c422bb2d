"""The status of cameras with faults, each under its name, without any password."""

import json
import time
from pathlib import Path
from typing import Any

from testing.servers.daemon import Listener, configuration, running
from testing.servers.mosquitto import Mosquitto, free_port
from testing.servers.rtsp import RtspServer
from testing.waiting import wait_for

PASSWORD = "s3cret"  # the right one of user `pilot`
WRONG = "wr0ng"


def cause(heard: Listener, camera: str) -> str | None:
    said = heard.on(f"cameras/{camera}/status")
    return said[-1].get("cause", said[-1]["state"]) if said else None


def test_each_camera_says_what_is_the_matter_and_none_says_a_password(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, RtspServer(tmp_path) as server:
        wrong, right = f"pilot:{WRONG}@", f"pilot:{PASSWORD}@"
        cameras = {
            "well": (server.url("/guarded", right), "streaming"),
            "password": (server.url("/guarded", wrong), "unauthorized"),
            "path": (server.url(f"/nothing?token={WRONG}", right), "not_found"),
            "name": (f"rtsp://{wrong}nobody.invalid/cam", "not_found"),
            "port": (f"rtsp://{wrong}127.0.0.1:{free_port()}/cam", "refused"),
            "secure": (server.url("/cam", wrong).replace("rtsp://", "rtsps://"), "tls"),
            "sound": (server.url("/sound", right), "no_video"),
            "future": (server.url("/future", right), "unsupported"),
            "nobody": (f"udp://127.0.0.1:{free_port()}?pass={WRONG}", "timeout"),
            "still": (server.url("/still", right), "frozen"),
        }
        config = configuration(tmp_path, broker, {name: source for name, (source, _) in cameras.items()}, "log: {level: debug}\n")
        config = config.replace("reconnect_maximum_s: 1}", "reconnect_maximum_s: 1, frozen_after_s: 2}")
        with running(tmp_path, broker, config) as (daemon, heard):
            expected = {name: said for name, (_, said) in cameras.items()}
            wait_for(lambda: {name: cause(heard, name) for name in cameras} == expected, within_s=40, every_s=0.1)

            frozen = heard.on("cameras/still/status")[-1]
            assert frozen["state"] == "stalled"
            assert frozen["detail"].endswith("has sent the same image for 2 s")
            shown = len(heard.on("cameras/still/poses"))
            time.sleep(3)  # opened again meanwhile, with the same image: nothing new to publish
            assert heard.on("cameras/still/status")[-1] == frozen
            assert len(heard.on("cameras/still/poses")) <= shown + 1
            assert len(heard.on("cameras/well/poses")) > 20

            health: list[dict[str, Any]] = heard.on("health")
            assert health[-1]["cameras"]["still"]["drops"]["frozen"] > 10
            slashes = f"rtsp://pilot:{WRONG}/{WRONG}@127.0.0.1:{server.port}/cam"
            daemon.reload(config.replace(cameras["well"][0], slashes))
            wait_for(lambda: "has no valid address" in heard.on("health")[-1].get("reload_refused", ""))
            assert daemon.terminate(within_s=15) == 0

            topics = ["status", "info", "health", *(f"cameras/{name}/{topic}" for name in cameras for topic in ("status", "poses"))]
            said = daemon.log.read_text() + "".join(json.dumps(message) for topic in topics for message in heard.on(topic))
            assert "rtsp://127.0.0.1" in said
            assert PASSWORD not in said
            assert WRONG not in said
