"""Brokers with rules of their own: tight limits, missing features, messages that they do not accept, and what they retain of others."""

import json
import struct
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.publish import single

from edgepose.config.load import load
from edgepose.config.schema import CommandsConfig, Config, MqttConfig
from edgepose.daemon.commands import snapshot_message
from edgepose.errors import ConfigError
from edgepose.frame import Frame
from edgepose.messages.structs import CameraStatusMessage
from edgepose.mqtt.command_inbox import Command, CommandInbox
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.protocol import Tolerance, filter_fault, matches_any, prefix_fault, topic_fault
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import BrokerSettings, PublisherSettings
from edgepose.mqtt.subscriber import Subscriber
from edgepose.pixels import unguarded
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.servers.lax_broker import LaxBroker, lax_broker
from testing.servers.mosquitto import Mosquitto, free_port
from testing.waiting import wait_for


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as started:
        yield started


POSES = "edgepose/drone/cameras/front/poses"
EVENTS = "edgepose/drone/cameras/front/events"


def dropped(publisher: MqttPublisher, count: int) -> None:
    wait_for(lambda: publisher.stats().drops.get("too_large") == count)


def heard(listener: Listener, topic: str, count: int) -> None:
    wait_for(lambda: len(listener.on(topic)) == count)


def camera(name: str) -> CameraStatusMessage:
    return CameraStatusMessage(camera=name, state="streaming", epoch=0, at="2026-11-22T10:00:00.000000Z")


# What the broker grants.


@pytest.mark.parametrize("limit", [2000, 60_000, 1 << 20])
def test_what_is_longer_than_the_broker_grants_is_dropped_and_counted_and_the_rest_arrives(tmp_path: Path, limit: int, caplog) -> None:
    fits, too_long = b"f" * (limit - 200), b"t" * (limit + 1)
    with (
        Mosquitto(tmp_path, lines=f"max_packet_size {limit}") as broker,
        Listener(broker.port) as listener,
        publishing(broker.port, pose_expiry_s=600) as publisher,
    ):
        wait_for(lambda: publisher.stats().packet_bytes == limit)
        for count in (1, 2, 3):
            publisher.publish_poses("front", too_long)
            dropped(publisher, 2 * count - 1)
            publisher.publish_poses("front", fits)
            for payload in (too_long, fits):
                publisher.publish("cameras/front/events", payload, qos=1)
            heard(listener, EVENTS, count)
            heard(listener, POSES, count)
            dropped(publisher, 2 * count)
        publisher.publish_retained("cameras/front/status", too_long)
        dropped(publisher, 7)
        stats = publisher.stats()
        assert (stats.state, stats.reconnects, stats.events_waiting, stats.drops) == ("connected", 0, 0, {"too_large": 7})
        assert {message.payload for message in listener.on(POSES)} == {fits}
    assert caplog.text.count(f"packets of up to {limit} bytes, and a message on {POSES} takes") == 1


def test_under_version_3_1_1_a_message_that_ended_two_connections_goes_and_longer_ones_with_it(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path, lines="max_packet_size 2000") as broker,
        Listener(broker.port) as listener,
        publishing(broker.port, protocol="3.1.1") as publisher,
    ):
        wait_for(lambda: publisher.stats().connected)
        for number, size in enumerate((5000, 10, 5001, 20)):
            publisher.publish("cameras/front/events", b"%d" % number + bytes(size), qos=1)
        wait_for(lambda: len(listener.on(EVENTS)) == 2)
        wait_for(lambda: publisher.stats().events_waiting == 0)
        stats = publisher.stats()
        assert (stats.drops["too_large"], stats.reconnects) == (2, 2)
        assert [message.payload[:1] for message in listener.on(EVENTS)] == [b"1", b"3"]


def test_a_message_that_the_broker_does_not_accept_at_any_length_goes_too_and_no_other() -> None:
    poison = LaxBroker(refuses=lambda message: message.payload == b"poison", refuses_v5=True)
    with lax_broker(poison) as broker, publishing(broker.port) as publisher:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish_poses("front", b"p" * 500)
        wait_for(lambda: broker.on(POSES))
        for payload in (b"1", b"poison", b"2"):
            publisher.publish("cameras/front/events", payload, qos=1)
        wait_for(lambda: publisher.stats().events_waiting == 0)
        assert {message.payload for message in broker.on(EVENTS)} == {b"1", b"2"}
        assert publisher.stats().drops["refused_by_broker"] == 1
        assert publisher.stats().reconnects == 2


@pytest.mark.parametrize(
    ("lines", "qos", "retained"),
    [("max_qos 0", 0, True), ("retain_available false", 1, False), ("max_qos 0\nretain_available false", 0, False)],
)
def test_a_broker_without_qos_1_or_retained_messages_gets_plain_ones(tmp_path: Path, lines: str, qos: int, retained: bool, caplog) -> None:
    with Mosquitto(tmp_path, lines=lines) as broker, Listener(broker.port) as listener, publishing(broker.port) as publisher:
        publisher.publish_retained("cameras/front/status", camera("front"))
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        wait_for(lambda: listener.on(EVENTS) and listener.on("edgepose/drone/cameras/front/status"))
        assert listener.on(EVENTS)[0].qos == qos
        wait_for(lambda: publisher.stats().events_waiting == 0)
        assert (publisher.stats().state, publisher.stats().reconnects, publisher.stats().drops) == ("connected", 0, {})
        with Listener(broker.port) as late:
            publisher.publish("cameras/front/events", b"later", qos=1)
            wait_for(lambda: late.on(EVENTS))
            assert bool(late.on("edgepose/drone/cameras/front/status")) == retained
    assert ("grants QoS 0 only" in caplog.text) == (qos == 0)
    assert ("no retained messages" in caplog.text) != retained


def test_no_more_messages_wait_for_an_answer_than_the_broker_grants() -> None:
    two_at_a_time = LaxBroker(properties=b"\x21" + struct.pack(">H", 2), acknowledges=False)
    with lax_broker(two_at_a_time) as broker, publishing(broker.port) as publisher:
        for number in range(9):
            publisher.publish("cameras/front/events", b"%d" % number, qos=1)
        wait_for(lambda: len(broker.published) == 2)
        publisher.publish_poses("front", b"later")
        wait_for(lambda: broker.on(POSES))
        assert len(broker.published) == 3


def test_a_broker_without_wildcards_is_asked_for_each_command() -> None:
    with lax_broker(LaxBroker(properties=b"\x28\x00")) as broker, publishing(broker.port, commands=lambda _: None):
        wait_for(lambda: len(broker.subscribed) > 3)
        assert set(broker.subscribed) > {STATUS, "edgepose/drone/command/pause", "edgepose/drone/command/reload"}
        assert not any("+" in topic for topic in broker.subscribed)


def test_the_keep_alive_is_the_brokers() -> None:
    with lax_broker(LaxBroker(properties=b"\x13" + struct.pack(">H", 1))) as broker, publishing(broker.port, keepalive_s=3600) as publisher:
        wait_for(lambda: publisher.stats().connected)
        wait_for(lambda: publisher._session is not None and publisher._session.turns > 3, within_s=20)
        assert publisher.stats().reconnects == 0


@pytest.mark.parametrize("limit", [2000, 20_000, None])
def test_a_snapshot_shrinks_to_what_the_broker_accepts(limit: int | None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    limit_bytes = 256 * 1024 if limit is None else limit
    message = snapshot_message(Frame(noise, 0, "host", 0, "front"), unguarded(noise), 640, limit_bytes)
    assert message is not None
    assert len(message.jpeg) <= limit_bytes
    assert abs(message.width / message.height - 16 / 9) < 0.1
    assert message.width == 640 or limit is not None


# Topics.


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("", "empty"),
        ("a/+", "wildcard"),
        ("#", "wildcard"),
        ("$SYS/x", "begins with '$'"),
        ("/" * 201, "levels"),
        ("x" * 65_536, "65536 bytes"),
        ("é" * 33_000, "66000 bytes"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\ud800b", "U+D800"),
        ("a\uffffb", "U+FFFF"),
    ],
)
def test_a_topic_that_a_broker_does_not_accept_is_found(topic: str, said: str) -> None:
    assert said in (topic_fault(topic) or "")


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "a b", "é/鶴", "a$b", "x" * 65_535])
def test_other_topics_are_good(topic: str) -> None:
    assert topic_fault(topic) is None


@pytest.mark.parametrize(
    ("pattern", "good"), [("a/+/b", True), ("#", True), ("a/#", True), ("a/#/b", False), ("a+", False), ("$SYS/#", False)]
)
def test_a_filter_that_is_none_is_found(pattern: str, good: bool) -> None:
    assert (filter_fault(pattern) is None) == good
    settings = lambda: PublisherSettings(MqttConfig(), "drone", response_topics=(pattern,))  # noqa: E731
    if good:
        settings()
    else:
        with pytest.raises(ConfigError, match="no topic filter"):
            settings()


@pytest.mark.parametrize(
    ("pattern", "topic", "match"),
    [("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/#", "a", True), ("a/#", "a/b/c", True), ("+", "a", True), ("a", "a/b", False)],
)
def test_filters_match_as_the_standard_says(pattern: str, topic: str, match: bool) -> None:
    assert matches_any([pattern], topic) == match


@pytest.mark.parametrize("prefix", ["$SYS", "$share/g", "x" * 70_000, "x" * 2000, "/", "a\nb", "/".join("x" * 150)])
def test_a_prefix_that_no_topic_can_begin_with_is_refused_before_anything_runs(prefix: str) -> None:
    assert prefix_fault(prefix) is not None
    with pytest.raises(ConfigError, match=r"mqtt\.prefix: .* cannot begin a topic: .*; expected"):
        BrokerSettings.read(MqttConfig(prefix=prefix))


@pytest.mark.parametrize(
    "topic",
    [
        "/" * 201,
        "x" * 65_536,
        "$SYS/broker",
        "homeassistant/x/config",
        "edgepose/other/reply/x",
        "edgepose/drone/status",
        "a\0b",
        "a/+",
        "",
        "\ud800",
    ],
)
def test_a_response_topic_outside_the_allow_list_or_of_no_broker_is_not_used(topic: str) -> None:
    inbox = CommandInbox("edgepose/drone", lambda _: None, None, ("ground/+", "#") if "\0" in topic else ("ground/+",))  # type: ignore[arg-type]
    assert not inbox.may_answer(topic)
    assert inbox.reply(Command("pause", b"", topic, None), b"", 0.0).topic == "edgepose/drone/reply/pause"


def test_a_response_topic_of_the_allow_list_is_used() -> None:
    inbox = CommandInbox("edgepose/drone", lambda _: None, None, ("ground/+",))  # type: ignore[arg-type]
    for topic in ("ground/replies", "edgepose/drone/reply/x"):
        assert inbox.reply(Command("pause", b"", topic, None), b"", 0.0).topic == topic


@pytest.mark.parametrize("name", ["x" * 1000, "a\nb", "\x1b[2J"])
def test_the_name_of_a_command_cannot_spoil_the_topic_of_its_reply(name: str) -> None:
    inbox = CommandInbox("edgepose/drone", lambda _: None, None)  # type: ignore[arg-type]
    assert inbox.reply(Command(name, b"", None, None), b"", 0.0).topic == "edgepose/drone/reply/unknown"


def test_a_poisoned_response_topic_over_a_broker_that_checks_nothing_silences_nobody() -> None:
    taken: list[Command] = []
    with lax_broker(LaxBroker()) as broker, publishing(broker.port, commands=taken.append) as publisher:
        wait_for(lambda: len(broker.subscribed) >= 2)
        for topic in (b"/" * 201, b"$SYS/x", b"homeassistant/x/config"):
            broker.send(b"edgepose/drone/command/nonsense", b"{}", properties=b"\x08" + struct.pack(">H", len(topic)) + topic)
        wait_for(lambda: len(taken) >= 3)
        for command in taken:
            publisher.reply(command, b"{}")
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        wait_for(lambda: broker.on(EVENTS))
        assert {message.topic for message in broker.published if "reply" in message.topic} == {"edgepose/drone/reply/nonsense"}
        assert publisher.stats().reconnects == 0


# What the broker retains of others.


def retained(port: int) -> dict[str, bytes]:
    with Listener(port, "edgepose/#") as late:
        wait_for(lambda: late.on(STATUS))
        time.sleep(0.1)
        return {message.topic: bytes(message.payload) for message in late.messages if message.payload}


def holds(port: int, topic: str) -> bool:
    return topic in retained(port)


def test_after_a_duplicate_session_leaves_all_states_are_said_again_and_its_cameras_are_cleared(broker: Mosquitto) -> None:
    with publishing(broker.port) as publisher:
        publisher.publish_retained("cameras/front/status", camera("front"))
        wait_for(lambda: "edgepose/drone/cameras/front/status" in retained(broker.port))
        with publishing(broker.port) as other:
            other.publish_retained("cameras/front/status", b'{"other":1}')
            other.publish_retained("cameras/back/status", b'{"other":1}')
            wait_for(lambda: b"other" in retained(broker.port).get("edgepose/drone/cameras/back/status", b""))
        wait_for(lambda: "edgepose/drone/cameras/back/status" not in retained(broker.port))
        wait_for(lambda: b"other" not in retained(broker.port)["edgepose/drone/cameras/front/status"])
        states = retained(broker.port)
        assert json.loads(states["edgepose/drone/info"])["session"] == publisher.stats().session
        assert json.loads(states[STATUS])["session"] == publisher.stats().session


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_state_of_a_camera_that_was_renamed_is_cleared_at_the_next_start(broker: Mosquitto, protocol: str) -> None:
    for name in ("before", "after"):
        with publishing(broker.port, protocol=protocol) as publisher:
            publisher.publish_retained(f"cameras/{name}/status", camera(name))
            wait_for(partial(holds, broker.port, f"edgepose/drone/cameras/{name}/status"))
    wait_for(lambda: "edgepose/drone/cameras/before/status" not in retained(broker.port))
    assert "edgepose/drone/cameras/after/status" in retained(broker.port)


def test_a_foreign_topic_beside_the_cameras_stays(broker: Mosquitto) -> None:
    single("edgepose/drone/cameras/x/notes", b"mine", retain=True, qos=1, port=broker.port, hostname="127.0.0.1")
    single("edgepose/other/cameras/x/status", b"mine", retain=True, qos=1, port=broker.port, hostname="127.0.0.1")
    with publishing(broker.port) as publisher:
        wait_for(lambda: publisher.stats().connected)
        assert {"edgepose/drone/cameras/x/notes", "edgepose/other/cameras/x/status"} <= set(retained(broker.port))


# Where the broker is.


def test_the_hosts_of_a_list_are_tried_in_turn(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        hosts = ["no-such-host.invalid", "127.0.0.2", "127.0.0.1"]  # mosquitto listens on the last
        with publishing(broker.port, host=hosts) as publisher:
            wait_for(lambda: publisher.stats().connected)
            broker.restart()
            wait_for(lambda: publisher.stats().reconnects == 1 and publisher.stats().connected)
        topics: list[str] = []
        with Subscriber(MqttConfig(host=hosts[1:], port=broker.port), ["#"], lambda topic, _: topics.append(topic)):

            def is_heard() -> bool:  # it may not be subscribed yet
                single("x", b"", port=broker.port, hostname="127.0.0.1")
                return "x" in topics

            wait_for(is_heard, every_s=0.1)


def test_a_list_of_hosts_is_read_from_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("mqtt: {host: [a, b]}\n")
    assert load(path, [], {}).mqtt.hosts == ["a", "b"]
    assert load(None, ["mqtt.host=[a, '::1']"], {}).mqtt.hosts == ["a", "::1"]
    assert load(None, [], {"EDGEPOSE__MQTT__HOST": "[a]"}).mqtt.hosts == ["a"]
    assert load(None, ["mqtt.host=a"], {}).mqtt.hosts == ["a"]
    for wrong in ("[]", "[a:1883]", "[a, [b]]"):
        with pytest.raises(ConfigError, match=r"mqtt\.host is"):
            load(None, [f"mqtt.host={wrong}"], {})


def test_a_websocket_port_is_named(tmp_path: Path) -> None:
    port = free_port()
    with Mosquitto(tmp_path, lines=f"listener {port} 127.0.0.1\nprotocol websockets"), publishing(port) as publisher:
        wait_for(lambda: publisher.stats().state == "refused: that port is for websockets or HTTP")
        with pytest.raises(Exception, match=r"that port is for websockets or HTTP; expected .*mqtt\.port"):
            Subscriber(MqttConfig(host="127.0.0.1", port=port), [], lambda *_: None).__enter__()


def test_the_daemon_takes_its_settings_from_the_configuration() -> None:
    settings = PublisherSettings.of(Config(device="d", commands=CommandsConfig(enabled=True, response_topics=["clients/+"])))
    assert settings.response_topics == ("clients/+",)


# What a broker does not say (MQTT 3.1.1).


def sent(payload: bytes, qos: int = 1) -> tuple[Outgoing, int]:
    return Outgoing("t", payload, qos=qos), len(payload)


def test_a_limit_that_was_not_announced_is_learned_from_two_ends_and_forgotten_after_a_while() -> None:
    tolerance = Tolerance()
    for now_s, (long, length) in enumerate((sent(b"x" * 3000, qos=0), sent(b"y" * 2900, qos=0))):
        tolerance.confirm(Outgoing("t", b""), 100)
        assert tolerance.refuses(long, length, now_s) is None
        tolerance.end("connection closed", [(long, length)], now_s)
    assert (tolerance.limit(2), tolerance.refuses(long, length, 2), tolerance.careful(2)) == (2899, "too_large", False)
    tolerance.end("connection closed", [sent(b"z" * 2500, qos=0)], 3)  # longer than what was confirmed: the limit is lower
    assert tolerance.limit(4) == 2499
    assert tolerance.limit(1000) is None


@pytest.mark.parametrize("reason", ["no answer", "server shutting down", "not authorized", "closed"])
def test_ends_for_other_reasons_cost_no_message(reason: str) -> None:
    tolerance = Tolerance()
    for now_s in range(4):
        tolerance.end(reason, [sent(b"x" * 3000)], now_s)
    assert (tolerance.limit(5), tolerance.careful(5), tolerance.refuses(*sent(b"x" * 3000), 5)) == (None, False, None)


def test_innocent_messages_beside_a_guilty_one_are_not_dropped() -> None:
    tolerance = Tolerance()
    tolerance.confirm(Outgoing("t", b""), 10_000)
    messages = [sent(b"%d" % number) for number in range(5)]
    tolerance.end("connection closed", messages, 0)
    assert tolerance.careful(1)
    for message, length in messages[:3]:
        tolerance.confirm(message, length)
    tolerance.end("connection closed", [messages[3]], 2)
    assert [tolerance.refuses(message, length, 3) for message, length in messages] == [None, None, None, "refused_by_broker", None]
    tolerance.end("packet too large", [messages[4]], 4)
    assert tolerance.refuses(*messages[4], 5) == "too_large"


def test_a_message_that_was_new_when_the_second_connection_ended_is_not_blamed() -> None:
    tolerance = Tolerance()
    tolerance.confirm(Outgoing("t", b""), 10_000)
    tolerance.end("connection closed", [sent(b"first")], 0)
    tolerance.end("connection closed", [sent(b"second")], 1)
    assert tolerance.refuses(*sent(b"second"), 2) is None
