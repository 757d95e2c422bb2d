"""The access rules and the bridge of deploy/mosquitto: exactly the topics of the contract and of discovery, with a real mosquitto."""

import re
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage, topic_matches_sub
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgepose.messages.schema import COMMANDS, TOPICS
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for

SHIPPED = Path(__file__).parents[2] / "deploy" / "mosquitto"
NAMES = {"{camera}": "front", "{zone}": "door", "{command}": "pause"}
DISCOVERY, BIRTH = "homeassistant/sensor/drone-7/edgepose__front__people/config", "homeassistant/status"


def whole(address: str, device: str = "drone-7") -> str:
    for name, value in NAMES.items():
        address = address.replace(name, value)
    return f"edgepose/{device}/{address}"


OUT = {whole(topic.address) for topic in TOPICS} | {DISCOVERY}
BUNDLES = {"edgepose/drone-7/bundle/new", "edgepose/groups/night/bundle/new"}
IN = {whole(topic.address) for topic in COMMANDS} | BUNDLES | {BIRTH}


def test_the_bridge_carries_exactly_the_topics_of_the_contract() -> None:
    lines = re.findall(r"^topic (\S+) (in|out) [01]$", (SHIPPED / "bridge.conf").read_text(), re.MULTILINE)
    for direction, topics in (("out", OUT - {whole("cameras/{camera}/poses")}), ("in", IN)):
        patterns = [pattern for pattern, way in lines if way == direction]
        assert {topic for topic in topics if any(topic_matches_sub(pattern, topic) for pattern in patterns)} == topics
        assert [pattern for pattern in patterns if not any(topic_matches_sub(pattern, topic) for topic in topics)] == []


class Peer:
    """A client of a name that publishes with QoS 1 and says whether the broker allows it."""

    def __init__(self, port: int, name: str) -> None:
        self.heard: list[str] = []
        self.refused: dict[int, bool] = {}
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(name, "pw")
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._client.on_message = self._take
        self._client.on_publish = self._published
        self._subscribed: list[bool] = []
        self._client.on_subscribe = lambda *_: self._subscribed.append(True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self._subscribed)

    def _take(self, client: Client, _: object, message: MQTTMessage) -> None:
        self.heard.append(message.topic)

    def _published(self, client: Client, _: object, mid: int, reason: ReasonCode, properties: Properties) -> None:
        self.refused[mid] = reason.is_failure

    def may_write(self, topic: str) -> bool:
        mid = self._client.publish(topic, "x", 1).mid
        wait_for(lambda: mid in self.refused)
        return not self.refused[mid]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_each_client_may_write_exactly_what_it_should(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text((SHIPPED / "edgepose.acl").read_text())
    acl.chmod(0o600)
    users = dict.fromkeys(("drone-7", "reader", "homeassistant", "commander"), "pw")
    with Mosquitto(tmp_path, users=users, lines=f"acl_file {acl}") as broker:
        device, reader, home, commander = (Peer(broker.port, name) for name in users)
        try:
            assert all(map(device.may_write, sorted(OUT)))
            others = [*BUNDLES, whole("status", "drone-8"), DISCOVERY.replace("drone-7", "drone-8"), BIRTH, whole(COMMANDS[0].address)]
            assert not any(map(device.may_write, others))
            assert home.may_write(BIRTH)
            assert home.may_write(DISCOVERY)
            assert not any(map(home.may_write, [whole("status"), whole(COMMANDS[0].address), whole("status", "homeassistant")]))
            assert not any(map(reader.may_write, [*sorted(OUT), BIRTH, DISCOVERY.replace("drone-7", "reader")]))
            assert all(map(commander.may_write, [*sorted(BUNDLES), *(whole(topic.address) for topic in COMMANDS)]))
            assert not any(map(commander.may_write, sorted(OUT)))
            wait_for(lambda: home.heard.count(DISCOVERY) == 2 and set(home.heard) >= OUT)
            own = ("status", "cameras/{camera}/status", "cameras/{camera}/occupancy", "cameras/{camera}/zones/{zone}/occupancy")
            wait_for(lambda: set(device.heard) >= BUNDLES)
            assert set(device.heard) == {*map(whole, own), *BUNDLES, *(whole(topic.address) for topic in COMMANDS), BIRTH, DISCOVERY}
        finally:
            for peer in (device, reader, home, commander):
                peer.close()
