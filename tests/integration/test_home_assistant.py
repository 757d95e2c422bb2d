"""A daemon, mosquitto with the shipped access rules, and what Home Assistant sees: birth, rename, SIGKILL, restart."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from edgepose.config.load import load
from edgepose.messages.home_assistant import discovery
from testing.onnx_files import write_edgepose
from testing.servers.daemon import Daemon
from testing.servers.mosquitto import Mosquitto
from testing.videos import write_video
from testing.waiting import in_time, wait_for

ACL = Path(__file__).parents[2] / "deploy" / "mosquitto" / "edgepose.acl"
DEVICE = "drone"


class HomeAssistant:
    """A subscriber that keeps the present state of each topic, as Home Assistant does, and says when it was born."""

    def __init__(self, port: int) -> None:
        self.states: dict[str, bytes] = {}
        self.announced: list[str] = []  # topics of discovery messages that came just now
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("homeassistant", "pw")
        self._client.on_connect = lambda client, *_: client.subscribe([("homeassistant/+/+/+/config", 1), ("edgepose/#", 1)])
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        if message.topic.startswith("homeassistant/") and not message.retain:
            self.announced.append(message.topic)
        if message.payload:
            self.states[message.topic] = bytes(message.payload)
        else:
            self.states.pop(message.topic, None)

    def say_birth(self) -> None:
        self._client.publish("homeassistant/status", "online")

    def discovered(self) -> set[str]:
        return {topic for topic in list(self.states) if topic.startswith("homeassistant/")}

    def available(self, camera: str) -> bool:
        """Return whether entities of a camera are available (`availability_mode: all`)."""
        states = [self.states.get(f"edgepose/{DEVICE}/{address}") for address in ("status", f"cameras/{camera}/status")]
        return [json.loads(state)["state"] for state in states if state] == ["online", "streaming"]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def allowed(tmp_path: Path):
    """A broker with the access rules of deploy/mosquitto; names of users take the place of those in certificates."""
    (tmp_path / "acl").write_text(ACL.read_text())
    (tmp_path / "acl").chmod(0o600)
    with Mosquitto(tmp_path, users={DEVICE: "pw", "homeassistant": "pw"}, lines=f"acl_file {tmp_path / 'acl'}") as started:
        yield started


def test_birth_rename_sigkill_and_restart_end_in_the_right_retained_set(tmp_path: Path, allowed: Mosquitto) -> None:
    video = write_video(tmp_path / "walk.mp4", 20)
    model = tmp_path / "tiny.onnx"
    write_edgepose(model)
    password = tmp_path / "password"
    password.write_text("pw\n")
    password.chmod(0o600)

    def config(camera: str, zone: str) -> str:
        return (
            f"device: {DEVICE}\nmodel: {{path: {model}}}\nrefine: {{people: 0}}\n"
            f"cameras:\n  {camera}: {{source: '{video}', loop: true, realtime: true, zones: {{{zone}: [[0, 0], [1, 0], [1, 1]]}}}}\n"
            f"mqtt: {{host: 127.0.0.1, port: {allowed.port}, username: {DEVICE}, password_file: {password}, keepalive_s: 2,"
            " home_assistant: {enabled: true}}\n"
        )

    def expected(camera: str, zone: str) -> set[str]:
        path = tmp_path / "expected.yaml"
        path.write_text(config(camera, zone))
        return set(discovery(load(path, environment={}), DEVICE))

    def own_states(seen: HomeAssistant) -> set[str]:
        retained = ("status", "occupancy", "info")
        return {topic.removeprefix(f"edgepose/{DEVICE}/") for topic in list(seen.states) if topic.endswith(retained)}

    def states_of(camera: str, zone: str) -> set[str]:
        return {"status", "info", *(f"cameras/{camera}/{rest}" for rest in ("status", "occupancy", f"zones/{zone}/occupancy"))}

    def is_right(seen: HomeAssistant, camera: str, zone: str) -> bool:
        return seen.discovered() == expected(camera, zone) and own_states(seen) == states_of(camera, zone) and seen.available(camera)

    home = HomeAssistant(allowed.port)
    daemon = Daemon(tmp_path, config("front", "door"), dict(os.environ))
    try:
        wait_for(lambda: is_right(home, "front", "door"), within_s=20)
        before = len(home.announced)
        home.say_birth()
        wait_for(lambda: set(home.announced[before:]) == expected("front", "door"))
        daemon.reload(config("gate", "yard"))
        wait_for(lambda: is_right(home, "gate", "yard"), within_s=20)
        killed_s = time.monotonic()
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait(60)
        wait_for(lambda: not home.available("gate"))
        assert in_time(time.monotonic() - killed_s, 5)
        daemon = Daemon(tmp_path, config("roof", "hatch"), dict(os.environ))  # renamed while it was away
        wait_for(lambda: is_right(home, "roof", "hatch"), within_s=20)
        late = HomeAssistant(allowed.port)  # what the broker retains, without anything that came before
        wait_for(lambda: is_right(late, "roof", "hatch"))
        late.close()
        daemon.reload(config("roof", "hatch").replace("enabled: true", "enabled: false"))
        wait_for(lambda: home.discovered() == set(), within_s=20)
    except BaseException:
        print(daemon.log.read_text(), allowed.log.read_text()[-3000:])
        raise
    finally:
        daemon.process.kill()
        daemon.process.wait(60)
        home.close()
