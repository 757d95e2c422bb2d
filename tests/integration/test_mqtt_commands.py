"""Commands and replies over real brokers, in both versions of MQTT."""

import json
import threading
import time

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from testing.servers.amqtt_broker import amqtt_broker
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for

COMMAND = "edgepose/drone/command"


class Commander:
    """Sends commands as a user of a broker."""

    def __init__(self, port, *, version=MQTTProtocolVersion.MQTTv5, user=None):
        self.heard: list[MQTTMessage] = []
        self._there = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        if user is not None:
            self._client.username_pw_set(*user)
        self._states: list[str] = []
        self._client.on_message = self._take
        topics = [(topic, 1) for topic in ("ground/replies", "edgepose/drone/reply/+", STATUS)]
        self._client.on_connect = lambda client, *_: client.subscribe(topics)
        self._client.on_subscribe = lambda *_: self._there.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._there.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client, _data, message):
        if message.topic == STATUS:
            self._states.append(json.loads(message.payload)["state"])
        else:
            self.heard.append(message)

    def wait_for_device(self, connections=1):
        """Wait until the device has said `online`, which it does after it has subscribed to its commands."""
        wait_for(lambda: self._states.count("online") >= connections)

    def send(self, name, payload=b"{}", *, retain=False, response=None, correlation=None):
        properties = None
        if response is not None or correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)
            if response is not None:
                properties.ResponseTopic = response
            if correlation is not None:
                properties.CorrelationData = correlation
        self._client.publish(f"{COMMAND}/{name}", payload, qos=1, retain=retain, properties=properties)


@pytest.fixture
def obeyed():
    return []


def test_a_command_and_its_reply(broker, obeyed):
    replies = ("ground/+",)
    with publishing(broker.port, commands=obeyed.append, response_topics=replies) as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("pause", b'{"camera":"front"}', response="ground/replies", correlation=b"\x00\xff42")
        command = wait_for(lambda: obeyed)[0]
        assert (command.name, command.payload) == ("pause", b'{"camera":"front"}')
        assert (command.response_topic, command.correlation) == ("ground/replies", b"\x00\xff42")
        publisher.reply(command, b'{"ok":true}')
        reply = wait_for(lambda: commander.heard)[0]
        assert (reply.topic, reply.payload, reply.qos, reply.retain) == ("ground/replies", b'{"ok":true}', 1, False)
        assert reply.properties.CorrelationData == b"\x00\xff42"
        assert 0 < reply.properties.MessageExpiryInterval <= 60


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311])
def test_without_a_wish_the_reply_is_on_the_devices_own_topic(broker, obeyed, version):
    with publishing(broker.port, commands=obeyed.append) as publisher, Commander(broker.port, version=version) as commander:
        commander.wait_for_device()
        commander.send("reload")
        command = wait_for(lambda: obeyed)[0]
        assert (command.response_topic, command.correlation) == (None, None)
        publisher.reply(command, b"done")
        assert wait_for(lambda: commander.heard)[0].topic == "edgepose/drone/reply/reload"


def test_version_3_1_1_hears_commands_too(obeyed):
    with (
        amqtt_broker() as port,
        publishing(port, commands=obeyed.append) as publisher,
        Commander(port, version=MQTTProtocolVersion.MQTTv311) as commander,
    ):
        wait_for(lambda: publisher.stats().connected)
        command = wait_for(lambda: commander.send("reload", b"now") or obeyed, every_s=0.2)[0]  # the broker may not listen yet
        assert (publisher.stats().protocol, command.name, command.payload) == ("3.1.1", "reload", b"now")
        publisher.reply(command, b"done")
        assert wait_for(lambda: commander.heard)[0].payload == b"done"


def test_users_with_rights_are_heard_and_others_are_not(tmp_path, obeyed):
    secret = tmp_path / "secret"
    secret.write_text("drone")
    acl = tmp_path / "acl"
    acl.write_text(
        "user drone\ntopic readwrite edgepose/drone/#\n"
        "user commander\ntopic write edgepose/drone/command/#\ntopic read edgepose/drone/#\n"
        "user reader\ntopic read edgepose/#\n"
    )
    users = {name: name for name in ("drone", "commander", "reader")}
    with (
        Mosquitto(tmp_path, users=users, lines=f"acl_file {acl}") as broker,
        publishing(
            broker.port, username="drone", password_file=str(secret), commands=obeyed.append, response_topics=("ground/replies",)
        ) as publisher,
        Commander(broker.port, user=("reader", "reader")) as reader,
        Commander(broker.port, user=("commander", "commander")) as commander,
    ):
        commander.wait_for_device()
        reader.send("pause")
        commander.send("resume", response="ground/replies")
        command = wait_for(lambda: obeyed)[0]
        assert [command.name for command in obeyed] == ["resume"]
        publisher.reply(command, b"done")  # where this device may not write
        wait_for(lambda: publisher.stats().drops.get("refused_by_broker") == 1)


@pytest.mark.parametrize(
    "topic",
    [
        *("edgepose/drone/status", "edgepose/other/command/reload", "edgepose/drone/command/reload", "homeassistant/x/config"),
        *("ground/replies", "a/+/b", "#"),
    ],
)
def test_nobody_makes_the_device_give_orders_or_tell_states(broker, obeyed, topic):
    with publishing(broker.port, commands=obeyed.append) as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("reload", correlation=b"7", response=topic)
        if "+" in topic or "#" in topic:  # the broker disconnects a client that publishes to a wildcard
            return
        publisher.reply(wait_for(lambda: obeyed)[0], b"done")
        reply = wait_for(lambda: commander.heard)[0]
        assert (reply.topic, reply.properties.CorrelationData) == ("edgepose/drone/reply/reload", b"7")


def test_old_orders_are_not_obeyed_after_a_reconnect(broker, obeyed, caplog):
    with Commander(broker.port) as commander:
        commander.send("pause", retain=True)
        with publishing(broker.port, commands=obeyed.append) as publisher:
            wait_for(lambda: publisher.stats().commands_ignored == {"retained": 1})
            commander.send("reload")
            wait_for(lambda: [command.name for command in obeyed] == ["reload"])
    assert "command 'pause' ignored: it was retained" in caplog.text


def test_an_order_is_not_obeyed_while_it_becomes_a_retained_one_nor_when_that_is_cleared(broker, obeyed, caplog):
    with publishing(broker.port, commands=obeyed.append) as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("resume")
        wait_for(lambda: [command.name for command in obeyed] == ["resume"])  # heard from here on
        commander.send("pause", retain=True)
        commander.send("pause", b"", retain=True)
        commander.send("reload")
        wait_for(lambda: [command.name for command in obeyed] == ["resume", "reload"])
        assert publisher.stats().commands_ignored == {"retained": 1}
    assert caplog.text.count("ignored") == 1


def test_with_version_3_1_1_clearing_a_retained_order_is_an_empty_one(obeyed):
    with (
        amqtt_broker() as port,
        publishing(port, commands=obeyed.append) as publisher,
        Commander(port, version=MQTTProtocolVersion.MQTTv311) as commander,
    ):
        wait_for(lambda: publisher.stats().connected)
        wait_for(lambda: commander.send("resume") or obeyed, every_s=0.2)  # heard from here on
        commander.send("pause", b"", retain=True)
        assert wait_for(lambda: [command.payload for command in obeyed if command.name == "pause"]) == [b""]


def test_long_orders_are_refused_and_very_long_ones_do_not_reach_us(broker, obeyed):
    with publishing(broker.port, commands=obeyed.append) as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("reload", bytes(200_000))  # longer than we told the broker that we take
        commander.send("reload", bytes(65_537))
        commander.send("reload", bytes(65_536))
        wait_for(lambda: obeyed)
        assert [len(command.payload) for command in obeyed] == [65_536]
        assert publisher.stats().commands_ignored == {"too_long": 1}
        assert publisher.stats().reconnects == 0


def test_an_endless_order_does_not_fill_the_memory_of_an_old_protocol(broker, obeyed, caplog):
    with publishing(broker.port, commands=obeyed.append, protocol="3.1.1") as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("reload", bytes(50_000_000))
        wait_for(lambda: publisher.stats().reconnects == 1, within_s=20)
        assert "a message of more than 128 KiB arrived" in caplog.text
        commander.wait_for_device(2)
        commander.send("reload")
        wait_for(lambda: [command.name for command in obeyed] == ["reload"])


def test_whoever_obeys_and_fails_does_not_end_the_connection(broker, caplog):
    def fail(_command):
        raise RuntimeError("no such luck")

    with publishing(broker.port, commands=fail) as publisher, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("reload")
        wait_for(lambda: publisher.stats().commands_ignored == {"failed": 1})
        assert publisher.stats().connected
        assert "no such luck" in caplog.text


def test_commands_are_heard_again_after_each_connection_and_not_at_all_where_nobody_obeys(broker, obeyed):
    with publishing(broker.port, commands=obeyed.append) as publisher:
        wait_for(lambda: publisher.stats().connected)
        broker.restart()
        wait_for(lambda: publisher.stats().reconnects == 1)
        wait_for(lambda: publisher.stats().connected)
        with Commander(broker.port) as commander:
            deadline = time.monotonic() + 120
            while not obeyed:  # the subscription may be a moment behind the connection
                assert time.monotonic() < deadline
                commander.send("reload")
                time.sleep(0.05)
    with publishing(broker.port) as publisher, Listener(broker.port) as listener, Commander(broker.port) as commander:
        commander.wait_for_device()
        commander.send("reload")
        wait_for(lambda: listener.on(f"{COMMAND}/reload"))
        assert publisher.stats().commands_ignored is None
