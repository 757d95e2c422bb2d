"""Commands to a real daemon through a real broker, by both versions of MQTT."""

import base64
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testing.servers.daemon import BASE, Daemon, Listener, configuration, running
from testing.servers.mosquitto import Mosquitto
from testing.servers.rtsp import RtspServer
from testing.waiting import in_time, wait_for


class Commander:
    """Sends commands and waits for their replies."""

    def __init__(self, port: int, *, v5: bool) -> None:
        self._v5 = v5
        self._number = 0
        self._lock = threading.Lock()
        self._replies: list[tuple[str, bytes | None, dict[str, Any]]] = []
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311)
        self._client.on_message = self._take
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_connect = lambda client, *_: client.subscribe([(f"{BASE}/reply/#", 1), ("ground/#", 1)])
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(60)

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None) if self._v5 else None
        with self._lock:
            self._replies.append((message.topic, correlation, json.loads(message.payload)))

    def ask(self, name: str, payload: bytes | str = "{}") -> dict[str, Any]:
        self._number += 1
        correlation = f"order {self._number}".encode()
        properties = None
        topic = f"{BASE}/reply/{name}"
        if self._v5:
            topic = "ground/answers"
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = topic
            properties.CorrelationData = correlation
        with self._lock:
            before = len(self._replies)
        self._client.publish(f"{BASE}/command/{name}", payload, 1, properties=properties)

        def answer() -> list[tuple[str, bytes | None, dict[str, Any]]]:
            with self._lock:
                return self._replies[before:]

        heard, echoed, reply = wait_for(answer, within_s=20)[0]
        assert heard == topic
        assert echoed == (correlation if self._v5 else None)
        assert reply["command"] == name
        return reply

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def commanded(folder: Path, lines: str, *, v5: bool) -> Iterator[tuple[Daemon, Listener, Commander]]:
    with Mosquitto(folder) as broker, RtspServer(folder) as camera, RtspServer(folder) as other:
        config = configuration(folder, broker, {"front": camera.url(), "rear": other.url()}, lines, "" if v5 else ", protocol: 3.1.1")
        with running(folder, broker, config) as (daemon, heard):
            wait_for(lambda: heard.on("cameras/front/poses") and heard.on("cameras/rear/poses") and heard.on("health"), within_s=30)
            commander = Commander(broker.port, v5=v5)
            try:
                yield daemon, heard, commander
            finally:
                commander.close()


@pytest.mark.parametrize("v5", [True, False], ids=["5", "3.1.1"])
def test_a_daemon_obeys_answers_and_notes(tmp_path: Path, v5: bool) -> None:
    audit = tmp_path / "commands.jsonl"
    with commanded(
        tmp_path, f"commands: {{enabled: true, response_topics: [ground/answers], snapshot: true, audit: {audit}}}\n", v5=v5
    ) as (daemon, heard, commander):
        assert commander.ask("pause", '{"camera": "front"}')["status"] == "ok"
        paused = wait_for(lambda: [message for message in heard.on("cameras/front/status") if message["state"] == "paused"])[-1]
        assert paused["cause"] == "command"
        wait_for(lambda: heard.on("health")[-1]["cameras"]["front"]["diagnosis"] == "paused")
        assert heard.on("health")[-1]["cameras"]["rear"]["state"] == "streaming"
        seen = len(heard.on("cameras/front/poses"))
        asked_s = time.monotonic()
        reply = commander.ask("snapshot", '{"camera": "front"}')
        assert (reply["status"], reply["reason"]) == ("refused", "camera front: paused on command; expected a camera that is streaming")
        assert in_time(time.monotonic() - asked_s, 4)
        assert len(heard.on("cameras/front/poses")) == seen
        assert commander.ask("resume")["status"] == "ok"
        wait_for(lambda: len(heard.on("cameras/front/poses")) > seen, within_s=20)
        assert heard.on("cameras/front/status")[-1]["epoch"] == 1

        picture = commander.ask("snapshot", '{"camera": "front", "width": 160}')["snapshot"]
        image = cv2.imdecode(np.frombuffer(base64.b64decode(picture["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (picture["height"], picture["width"], 3) == (120, 160, 3)
        assert image.max() > 200  # the ball of the test picture

        assert commander.ask("set-threshold", '{"score_threshold": 0.9}')["status"] == "ok"
        daemon.config.write_text(daemon.config.read_text() + "pose: {score_threshold: 0.5}\nprivacy: {pixels: blurred}\n")
        assert commander.ask("reload")["changes"] == ["pose applied", "privacy applied"]
        hidden = commander.ask("snapshot", '{"camera": "front", "width": 160, "overlay": true}')["snapshot"]  # once people are known
        assert (hidden["width"], hidden["height"]) == (160, 120)
        daemon.config.write_text(daemon.config.read_text().replace("blurred}", "blurred, profile: standard}"))
        assert commander.ask("reload")["changes"] == ["privacy applied"]
        wait_for(lambda: heard.on("info")[-1]["privacy"] == {"profile": "standard", "pixels": "blurred"})
        assert "expected full" in commander.ask("snapshot", '{"camera": "front", "overlay": true}')["reason"]
        daemon.config.write_text(daemon.config.read_text().replace("blurred", "never"))
        refused = commander.ask("reload")
        assert "commands.snapshot is true while privacy.pixels is never" in refused["reason"]
        daemon.config.write_text("cameras: 7\n")
        refused = commander.ask("reload")
        assert refused["status"] == "refused"
        assert "cameras is not a section" in refused["reason"]

        for name, payload, why in (
            ("explode", "", "there is no command 'explode'; expected one of reload, set-threshold, pause, resume, snapshot, record"),
            ("pause", "", "the payload of pause is empty; expected a JSON object, such as {}"),
            ("pause", '{"camera": "none"}', "there is no camera none; expected one of front, rear"),
            ("pause", '{"camera": "front", "force": true}', "pause has no field 'force'; expected one of camera"),
            ("pause", '{"camera": "../../etc"}', "camera is '../../etc'; expected a name of up to 64 letters"),
            ("set-threshold", '{"score_threshold": 2}', "score_threshold is 2; expected a number from 0 to 1"),
            ("set-threshold", "{}", "no threshold is given"),
            ("set-threshold", '{"low_score_threshold": 0.99}', "track.low_score_threshold is 0.99; expected at most pose.score_threshold"),
            ("snapshot", "[" * 5000, "the payload of snapshot is not JSON; expected a JSON object of camera, width"),
            ("record", "{}", "there is no black box"),
            ("reload", b"\xff\xfe", "the payload of reload is not JSON; expected {}"),
        ):
            reply = commander.ask(name, payload)
            assert reply["status"] == "refused"
            assert why in reply["reason"]
        noted = [json.loads(line) for line in audit.read_text().splitlines()]
        assert len(noted) == 22
        assert noted[0]["payload"] == '{"camera": "front"}'
        assert noted[0]["correlation"] == (b"order 1".hex() if v5 else None)
        assert {line["status"] for line in noted} == {"ok", "refused"}
        assert noted[-3]["payload_bytes"] == 5000
        assert audit.stat().st_mode & 0o777 == 0o600
        assert "Traceback" not in daemon.log.read_text()


def test_the_black_box_records_on_command(tmp_path: Path) -> None:
    box = tmp_path / "box"
    with commanded(tmp_path, f"commands: {{enabled: true, response_topics: [ground/answers]}}\nblack_box: {{path: {box}}}\n", v5=True) as (
        daemon,
        _,
        commander,
    ):
        reply = commander.ask("record")
        assert reply["status"] == "ok"
        recording = Path(reply["recording"])
        assert recording.parent == box
        assert list(recording.glob("*.segment"))
        wait_for(lambda: [path for path in box.iterdir() if path.is_dir() and "command" in path.name])
        again = commander.ask("record")
        assert again["status"] == "refused"
        assert "a recording for the reason command was made" in again["reason"]
        assert again["reason"].endswith("s ago; expected one a minute at most")
        for _ in range(2):
            daemon.process.send_signal(signal.SIGUSR1)
            wait_for(lambda: [path for path in box.iterdir() if path.name.endswith("-signal")])
        wait_for(lambda: "no recording is made: a recording for the reason signal was made" in daemon.log.read_text())


def test_no_picture_leaves_the_device_unless_the_operator_says_so(tmp_path: Path) -> None:
    with commanded(tmp_path, "commands: {enabled: true, response_topics: [ground/answers]}\n", v5=True) as (_, _, commander):
        reply = commander.ask("snapshot", '{"camera": "front"}')
        assert reply["status"] == "refused"
        assert "expected commands.snapshot to be true" in reply["reason"]
        assert "snapshot" not in reply


def test_ignored_commands_are_counted_in_health(tmp_path: Path) -> None:
    with commanded(tmp_path, "commands: {enabled: true, response_topics: [ground/answers]}\n", v5=True) as (_, heard, commander):
        commander._client.publish(f"{BASE}/command/pause", "{}", 1, retain=True)
        wait_for(lambda: heard.on("health")[-1]["commands_ignored"] == {"retained": 1}, within_s=15)
