"""The publisher against real brokers: mosquitto 2 (MQTT 5) and amqtt (MQTT 3.1.1 only)."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.publish import single

from edgepose.config.schema import MqttConfig, TlsConfig
from edgepose.errors import ConfigError
from edgepose.mqtt.connection import Connection
from edgepose.mqtt.presence import EngineBuild
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from testing.faults import network
from testing.faults.relay import Relay
from testing.requirements import require
from testing.servers.amqtt_broker import amqtt_broker
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.servers.mosquitto import Mosquitto
from testing.servers.scripted import scripted_server
from testing.waiting import in_time, wait_for


def test_retained_status_and_info_reach_a_late_subscriber(broker):
    with publishing(broker.port) as publisher:
        publisher.publish_retained("cameras/front/status", b'{"state":"streaming"}')
        wait_for(lambda: publisher.stats().sent >= 3)
        assert (publisher.stats().state, publisher.stats().protocol) == ("connected", "5")
        with Listener(broker.port) as late:
            wait_for(lambda: len(late.messages) >= 3)
            assert all(message.retain and message.qos == 1 for message in late.messages)
            status = json.loads(late.on(STATUS)[0].payload)
            assert (status["state"], status["session"], status["schema"]) == ("online", publisher.stats().session, 1)
            assert json.loads(late.on("edgepose/drone/info")[0].payload)["model"]["name"] == "n.onnx"
            assert late.on("edgepose/drone/cameras/front/status")[0].payload == b'{"state":"streaming"}'


def test_the_build_of_an_engine_is_told_with_online_and_ends(tmp_path):
    with Mosquitto(tmp_path) as broker, Listener(broker.port, STATUS) as listener, publishing(broker.port) as publisher:

        def told() -> list[tuple[str, object]]:
            messages = [json.loads(message.payload) for message in listener.on(STATUS)]
            return [(message["state"], message.get("building_engine")) for message in messages]

        wait_for(lambda: told() == [("online", None)])
        for percent in (3, 3, 42):
            publisher.tell_build(EngineBuild(percent, "Tactics"))
            wait_for(lambda: ("online", percent) in told())  # noqa: B023
        assert json.loads(listener.on(STATUS)[-1].payload)["reason"] == "connected; the engine is being built: Tactics"
        assert len(told()) == 3  # what did not change is not published again
        with Listener(broker.port, STATUS) as late:
            wait_for(lambda: [json.loads(message.payload)["building_engine"] for message in late.on(STATUS)] == [42])
        broker.restart()
        wait_for(lambda: told()[-2:] == [("online", 42), ("online", 42)])  # a new connection begins with what holds now
        publisher.tell_build(None)
        wait_for(lambda: told()[-1] == ("online", None))
        publisher.tell_build(EngineBuild(7, "Tactics"))
        wait_for(lambda: told()[-1] == ("online", 7))
        publisher.stop("the operator said so")
        wait_for(lambda: told()[-1] == ("stopped", None))


def test_stop_says_stopped_and_no_will_follows(broker):
    with Listener(broker.port, STATUS) as listener, publishing(broker.port) as publisher:
        wait_for(lambda: listener.states() == ["online"])
        publisher.publish("cameras/front/events", b"last words", qos=1)
        began = time.monotonic()
        publisher.stop("the operator said so")
        assert in_time(time.monotonic() - began, 1)
        wait_for(lambda: listener.states() == ["online", "stopped"])
        assert json.loads(listener.on(STATUS)[-1].payload)["reason"] == "the operator said so"
        publisher.publish_poses("front", b"too late")
        assert (publisher.stats().state, publisher.stats().connected, publisher.stats().drops) == ("stopped", False, {"stopped": 1})
        with Listener(broker.port, STATUS) as late:  # a round trip later there is still no will
            wait_for(lambda: late.states() == ["stopped"])


CHILD = """
import sys, time
from edgepose.config.schema import MqttConfig
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
publisher = MqttPublisher(PublisherSettings(MqttConfig(host="127.0.0.1", port=int(sys.argv[1])), "drone"))
publisher.start()
print(publisher.stats().session, flush=True)
sys.stdin.read()
"""


def test_will_says_offline_after_sigkill(broker):
    with Listener(broker.port, STATUS) as listener:
        with subprocess.Popen([sys.executable, "-c", CHILD, str(broker.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            session = child.stdout.readline().decode().strip()
            wait_for(lambda: listener.states() == ["online"])
            child.send_signal(signal.SIGKILL)
        wait_for(lambda: listener.states() == ["online", "offline"], promised_s=5)
        assert json.loads(listener.on(STATUS)[-1].payload)["session"] == session
        with Listener(broker.port, STATUS) as late:
            wait_for(lambda: late.states() == ["offline"])


def test_late_will_of_an_old_session_does_not_stand(broker):
    with publishing(broker.port) as publisher, Listener(broker.port, STATUS) as listener:
        wait_for(lambda: listener.states() == ["online"])
        old = b'{"schema":1,"state":"offline","reason":"","session":"old","at":"2026-11-22T10:00:00.000000Z"}'
        single(STATUS, old, qos=1, retain=True, port=broker.port)
        wait_for(lambda: listener.states() == ["online", "offline", "online"])
        with Listener(broker.port, STATUS) as late:
            wait_for(lambda: late.states() == ["online"])
            assert json.loads(late.on(STATUS)[0].payload)["session"] == publisher.stats().session


def test_two_daemons_of_one_name_are_told_and_do_not_fight(broker, caplog):
    with publishing(broker.port) as one, publishing(broker.port) as two, Listener(broker.port) as listener:
        wait_for(lambda: (one.stats().duplicate_session, two.stats().duplicate_session) == (two.stats().session, one.stats().session))
        assert caplog.text.count("another daemon publishes under edgepose/drone") == 2
        assert one.stats().connected
        assert two.stats().connected
        for publisher in (one, two):
            publisher.publish("done", b"")
        wait_for(lambda: len(listener.on("edgepose/drone/done")) == 2)
        assert len(listener.states()) <= 5  # the kept one, both births, and each once again for the other
        two.stop()
        wait_for(lambda: one.stats().duplicate_session is None)
        wait_for(lambda: listener.states()[-1] == "online")


def test_retained_messages_of_a_dead_daemon_are_no_duplicate_session(broker, caplog):
    left = b'{"schema":1,"state":"online","reason":"","session":"dead","at":"2026-11-22T10:00:00.000000Z"}'
    single(STATUS, left, qos=1, retain=True, port=broker.port)
    with publishing(broker.port) as publisher, Listener(broker.port, STATUS) as listener:
        late_will = left.replace(b"online", b"offline")
        wait_for(lambda: publisher.stats().sent >= 2)
        single(STATUS, late_will, qos=1, retain=True, port=broker.port)
        wait_for(lambda: listener.states()[-2:] == ["offline", "online"])
        assert publisher.stats().duplicate_session is None
        assert "another daemon" not in caplog.text


def test_three_daemons_of_one_name_do_not_talk_for_ever(broker):
    with (
        publishing(broker.port) as one,
        publishing(broker.port) as two,
        publishing(broker.port) as three,
        Listener(broker.port) as listener,
    ):
        wait_for(lambda: all(publisher.stats().duplicate_session is not None for publisher in (one, two, three)))
        for publisher in (one, two, three):
            publisher.publish("done", b"")
        wait_for(lambda: len(listener.on("edgepose/drone/done")) == 3)
        assert len(listener.states()) <= 1 + 3 + 3 * 2  # the kept one, births, and each once again for each other


def test_poses_expire_on_the_broker_and_are_not_retained(broker):
    with publishing(broker.port, pose_expiry_s=1.5) as publisher, Listener(broker.port, "+/+/cameras/+/poses") as listener:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish_poses("front", b"{}")
        message = wait_for(lambda: listener.messages)[0]
        assert (message.topic, message.qos, message.retain) == ("edgepose/drone/cameras/front/poses", 0, False)
        assert message.properties is not None
        properties = vars(message.properties)
        assert properties["MessageExpiryInterval"] in (1, 2)  # the broker subtracts what has passed
        assert properties["ContentType"] == "application/json"


def test_everything_is_said_again_after_a_broker_restart(broker):
    with Relay(broker.port) as way, publishing(way.port) as publisher:
        publisher.publish_retained("cameras/front/status", b"streaming")
        wait_for(lambda: publisher.stats().sent >= 3)
        broker.kill()
        wait_for(lambda: publisher.stats().state.startswith(("lost", "unreachable")))
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        publisher.publish_poses("front", b"nobody will see this")
        way.shut()  # until the listener has subscribed: the broker keeps no event for those who come later
        broker.start()
        with Listener(broker.port) as listener:  # persistence is off: nothing is left of before
            way.open()
            began = time.monotonic()
            wait_for(lambda: len({message.topic for message in listener.messages}) == 4, promised_s=5)
            assert in_time(time.monotonic() - began, 5)
            assert listener.states() == ["online"]
            assert [message.payload for message in listener.on("edgepose/drone/cameras/front/events")] == [b"fallen"]
        assert publisher.stats().drops == {"no_connection": 1}


def test_starting_without_a_broker_costs_nothing_and_succeeds_later(tmp_path):
    broker = Mosquitto(tmp_path)
    with publishing(broker.port) as publisher:
        wait_for(lambda: publisher.stats().state == "unreachable: connection refused")
        with broker:
            wait_for(lambda: publisher.stats().connected, promised_s=5)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def test_flood_towards_a_frozen_broker_stays_bounded(broker):
    payload = bytes(60_000)
    with publishing(broker.port, keepalive_s=2) as publisher:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish_poses("front", payload)
        wait_for(lambda: publisher.stats().sent >= 3)
        broker.freeze()
        before_mb, longest_s, count, deadline = resident_mb(), 0.0, 0, time.monotonic() + 120
        while publisher.stats().drops.get("backlog", 0) < 10_000:  # 600 MB
            assert time.monotonic() < deadline
            began = time.perf_counter()
            publisher.publish_poses("front", payload)
            publisher.publish("cameras/front/events", b"fallen", qos=1)
            longest_s = max(longest_s, time.perf_counter() - began)
            count += 1
        assert resident_mb() - before_mb < 5
        assert in_time(longest_s, 0.25)
        drops = publisher.stats().drops
        assert set(drops) <= {"backlog", "superseded", "queue_full"}
        assert drops["queue_full"] >= count - 1000 - 16
        wait_for(lambda: not publisher.stats().connected, promised_s=8)  # twice the keep-alive, and then some
        broker.thaw()
        wait_for(lambda: publisher.stats().connected, promised_s=8)


def test_a_frozen_broker_is_given_hardly_any_poses_that_it_would_send_late(broker):
    """Its kernel would take minutes of them."""
    with publishing(broker.port, keepalive_s=30) as publisher, Listener(broker.port, "edgepose/drone/cameras/+/poses") as listener:
        wait_for(lambda: publisher.stats().connected)

        def publish(until_s: float) -> None:
            while time.monotonic() < until_s:
                publisher.publish_poses("front", repr(time.monotonic()).encode())
                time.sleep(1 / 20)

        publish(time.monotonic() + 1)
        broker.freeze()
        frozen_s = time.monotonic()
        publish(frozen_s + 4)
        broker.thaw()
        thawed_s = time.monotonic()
        publish(thawed_s + 1)
        wait_for(lambda: any(float(message.payload) > thawed_s for message in listener.messages))
    said_s = [float(message.payload) for message in listener.messages]
    assert sum(frozen_s < at_s < thawed_s - 1 for at_s in said_s) <= 10  # 7 and what a busy machine adds, of 60
    assert publisher.stats().drops["backlog"] > 20  # of 80, and a busy machine offers fewer
    assert publisher.stats().reconnects == 0


def test_a_fast_broker_gets_every_pose_of_four_cameras(broker):
    with publishing(broker.port) as publisher, Listener(broker.port, "edgepose/drone/cameras/+/poses") as listener:
        wait_for(lambda: publisher.stats().connected)
        for number in range(60):
            for camera in ("front", "rear", "left", "right"):
                publisher.publish_poses(camera, bytes(1500 + number))
            time.sleep(1 / 30)
        wait_for(lambda: len(listener.messages) + sum(publisher.stats().drops.values()) == 240)
        assert len(listener.messages) >= 230  # a thread that is not let run for a frame's time is no fault of the path


SENDER = """
import sys, time
from edgepose.config.schema import MqttConfig
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
publisher = MqttPublisher(PublisherSettings(MqttConfig(host=sys.argv[1], port=int(sys.argv[2])), "drone"))
publisher.start()
until_s = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until_s:
    publisher.publish_poses("front", repr(time.time()).encode().ljust(1200))
    time.sleep(1 / 15)
"""


@pytest.mark.skipif(network.why_not() is not None, reason=network.why_not() or "")
@pytest.mark.parametrize("kilobits", [64, 16])
def test_on_a_slow_network_poses_are_fresh(tmp_path, kilobits):
    """They would take 144 kbit/s."""
    with network.Network() as slow, Mosquitto(tmp_path, address="0.0.0.0") as broker:
        ages_s = []
        subscriber = Client(CallbackAPIVersion.VERSION2)
        subscriber.on_message = lambda _client, _data, message: ages_s.append(time.time() - float(message.payload))
        subscriber.on_connect = lambda client, *_: client.subscribe("edgepose/drone/cameras/front/poses")
        subscriber.connect("127.0.0.1", broker.port)
        subscriber.loop_start()
        wait_for(subscriber.is_connected)
        slow.slow_out(kilobits)
        subprocess.run([*slow.prefix, sys.executable, "-c", SENDER, network.HOST, str(broker.port), "8"], check=True, timeout=120)
        subscriber.disconnect()
        subscriber.loop_stop()
    assert len(ages_s) > 8 * kilobits * 1000 / 8 / 1200 * 0.6  # most of what the network can carry
    assert in_time(max(ages_s), 2, at_most_s=6)  # of 8 s of poses, most of which the network cannot carry


def test_stop_is_quick_even_when_the_broker_is_frozen(broker):
    with publishing(broker.port, keepalive_s=60) as publisher:
        wait_for(lambda: publisher.stats().sent >= 2)
        broker.freeze()
        for _ in range(100):
            publisher.publish_poses("front", bytes(1_000_000))
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        began = time.monotonic()
        publisher.stop()
        assert in_time(time.monotonic() - began, 3)
        assert publisher.stats().drops["stopped"] >= 1


def test_unacknowledged_messages_arrive_after_the_connection_was_lost(broker):
    with Relay(broker.port) as way, publishing(way.port, keepalive_s=2) as publisher:
        wait_for(lambda: publisher.stats().sent >= 2)
        broker.freeze()
        for number in range(50):
            publisher.publish("cameras/front/events", str(number).encode(), qos=1)
        wait_for(lambda: publisher.stats().sent >= 16)
        way.shut()  # until the listener has subscribed: the broker keeps nothing for those who come later
        broker.kill()
        broker.start()
        topic = "edgepose/drone/cameras/front/events"
        with Listener(broker.port, topic) as listener:
            way.open()
            wait_for(lambda: len(listener.messages) >= 50, promised_s=8)
            assert [int(message.payload) for message in listener.messages] == list(range(50))
        assert publisher.stats().drops == {}


def test_wrong_password_is_named_and_logged_once(tmp_path, caplog):
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with (
        Mosquitto(tmp_path, users={"drone": "right"}) as broker,
        publishing(broker.port, start=False, username="drone", password_file=str(secret), reconnect_maximum_s=0.05) as publisher,
    ):
        publisher.start()
        wait_for(lambda: publisher.stats().state == "refused: not authorized")
        wait_for(lambda: broker.log.read_text().count("not authorised") >= 5)
        assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
        assert "wrong" not in caplog.text


def test_right_password_gets_in(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    with (
        Mosquitto(tmp_path, users={"drone": "right"}) as broker,
        publishing(broker.port, username="drone", password_file=str(secret)) as publisher,
    ):
        wait_for(lambda: publisher.stats().connected)


def test_messages_that_the_broker_refuses_are_counted(tmp_path, caplog):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edgepose/drone/status\ntopic readwrite edgepose/drone/info\n")
    with Mosquitto(tmp_path, lines=f"acl_file {acl}") as broker, publishing(broker.port) as publisher:
        wait_for(lambda: publisher.stats().connected)
        publisher.publish("cameras/front/events", b"fallen", qos=1)
        wait_for(lambda: publisher.stats().drops == {"refused_by_broker": 1})
        wait_for(lambda: "refuses messages on edgepose/drone/cameras/front/events: not authorized" in caplog.text)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    require("openssl")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, certificate, key


def test_tls(tmp_path, certificates):
    tls = TlsConfig(enabled=True, ca_file=str(certificates[0]))
    with Mosquitto(tmp_path, tls=certificates) as broker, publishing(broker.port, host="localhost", tls=tls) as publisher:
        wait_for(lambda: publisher.stats().connected)
        for number in range(200):
            publisher.publish("cameras/front/events", bytes([number]) * 20_000, qos=1)
        wait_for(lambda: publisher.stats().sent >= 202)
        assert publisher.stats().drops == {}


def test_a_broker_with_an_unknown_certificate_is_refused(tmp_path, certificates):
    with (
        Mosquitto(tmp_path, tls=certificates) as broker,
        publishing(broker.port, host="localhost", tls=TlsConfig(enabled=True)) as publisher,
    ):
        wait_for(lambda: publisher.stats().state.startswith("refused: the broker's certificate is of an unknown authority"))


def test_unreadable_secrets_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"^mqtt.password_file: /nowhere cannot be read: No such file"):
        MqttPublisher(PublisherSettings(MqttConfig(password_file="/nowhere"), "drone"))
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ConfigError, match=r"first line of .* is empty"):
        MqttPublisher(PublisherSettings(MqttConfig(password_file=str(empty)), "drone"))
    with pytest.raises(ConfigError, match=r"^mqtt.tls.ca_file: /nowhere cannot be used"):
        MqttPublisher(PublisherSettings(MqttConfig(tls=TlsConfig(enabled=True, ca_file="/nowhere")), "drone"))
    with pytest.raises(ConfigError, match=r"^mqtt.tls.certificate_file: .*empty with its key in the same file cannot be used"):
        MqttPublisher(PublisherSettings(MqttConfig(tls=TlsConfig(enabled=True, certificate_file=str(empty))), "drone"))
    with pytest.raises(ConfigError, match="cannot be part of a topic"):
        MqttPublisher(PublisherSettings(MqttConfig(), "a/b"))


def test_an_unknown_host_is_named():
    with publishing(1883, host="no-such-host.invalid") as publisher:
        wait_for(lambda: publisher.stats().state.startswith("unreachable: "))
        assert "name" in publisher.stats().state


def test_falls_back_to_3_1_1():
    with amqtt_broker() as port, publishing(port) as publisher, Listener(port, protocol=MQTTProtocolVersion.MQTTv311) as listener:
        wait_for(lambda: publisher.stats().connected)
        assert publisher.stats().protocol == "3.1.1"
        publisher.publish_poses("front", b"{}")
        wait_for(lambda: listener.on("edgepose/drone/cameras/front/poses"))
        wait_for(lambda: "online" in listener.states())
        publisher.stop()
        wait_for(lambda: listener.states()[-1] == "stopped")


def refusing_version_5():
    """What a 3.1.1 broker by the book says: CONNACK with return code 1 to version 5, 0 to 3.1.1."""

    def talk(client):
        level = client.recv(4096).partition(b"MQTT")[2][0]
        client.sendall(b"\x20\x02\x00" + bytes([level == 5]))
        while level == 4 and client.recv(4096):
            pass

    return scripted_server(talk)


def test_a_refused_version_is_followed_by_the_other_at_once_and_without_alarm(caplog):
    with refusing_version_5() as port, publishing(port, keepalive_s=60) as publisher:
        wait_for(lambda: publisher.stats().connected, promised_s=1)
        assert publisher.stats().protocol == "3.1.1"
        assert not caplog.records


def test_a_broker_that_accepts_version_5_only_is_named_in_the_state():
    with refusing_version_5() as port, publishing(port, protocol="5") as publisher:
        wait_for(lambda: publisher.stats().state == "refused: unsupported protocol version")


def test_msgpack(broker):
    with publishing(broker.port, encoding="msgpack"), Listener(broker.port, STATUS) as listener:
        message = wait_for(lambda: listener.messages)[0]
        assert msgspec.msgpack.decode(message.payload)["state"] == "online"
        assert message.properties is not None
        assert vars(message.properties)["ContentType"] == "application/msgpack"


def test_a_session_that_hangs_is_replaced_and_cannot_touch_the_outbox_when_it_wakes(broker, monkeypatch):
    hang, released, woken = threading.Event(), threading.Event(), threading.Event()
    step = Connection.step

    def hanging_step(self, timeout_s, *, sending):
        if hang.is_set() and threading.current_thread() is first:
            released.wait(60)
            woken.set()
        return step(self, timeout_s, sending=sending)

    monkeypatch.setattr(Connection, "step", hanging_step)
    topic = "edgepose/drone/cameras/front/events"
    with publishing(broker.port, keepalive_s=60) as publisher, Listener(broker.port) as listener:
        session = publisher._session
        assert session is not None
        first = session._thread
        assert first is not None
        wait_for(lambda: publisher.stats().sent >= 2)
        publisher.publish_retained("cameras/front/status", b"streaming")
        wait_for(lambda: listener.on("edgepose/drone/cameras/front/status"))
        broker.freeze()
        for number in range(5):
            publisher.publish("cameras/front/events", str(number).encode(), qos=1)
        wait_for(lambda: publisher.stats().sent >= 8)  # the first session has them, and no answer
        hang.set()
        publisher.supervise(time.monotonic())
        before = publisher.stats()
        publisher.supervise(time.monotonic() + 1000)
        broker.thaw()
        wait_for(lambda: publisher.stats().connected)
        wait_for(lambda: {message.payload for message in listener.on(topic)} == {b"0", b"1", b"2", b"3", b"4"})
        wait_for(lambda: publisher.stats().events_waiting == 0)
        wait_for(lambda: len(listener.on("edgepose/drone/info")) >= 2)  # said again
        after = publisher.stats()
        assert (after.replaced, after.drops, after.reconnects) == (1, {}, 0)
        assert after.session != before.session
        sent = after.sent
        released.set()
        assert woken.wait(10)
        first.join(10)
        assert not first.is_alive()
        wait_for(lambda: listener.states()[-1] == "online")
        assert publisher.stats().events_waiting == 0
        assert publisher.stats().sent - sent <= 2  # `online` again after the other's will, at most
        publisher.publish("cameras/front/events", b"5", qos=1)
        wait_for(lambda: [message.payload for message in listener.on(topic)][-1] == b"5")
        assert publisher.stats().drops == {}


def test_another_prefix_says_stopped_under_the_old_one_and_all_states_under_the_new(broker):
    with publishing(broker.port) as publisher, Listener(broker.port) as listener:
        publisher.publish_retained("cameras/front/status", b"streaming")
        wait_for(lambda: publisher.stats().sent >= 3)
        settings = PublisherSettings(MqttConfig(host="127.0.0.1", port=broker.port, prefix="fleet"), "other")
        publisher.change(settings, None, "another configuration")
        wait_for(lambda: listener.states()[-1:] == ["stopped"])
        assert json.loads(listener.on(STATUS)[-1].payload)["reason"] == "another configuration"
        status = json.loads(wait_for(lambda: listener.on("fleet/other/status"))[-1].payload)
        wait_for(lambda: listener.on("fleet/other/cameras/front/status"))
        assert listener.on("fleet/other/cameras/front/status")[0].payload == b"streaming"
        info = json.loads(wait_for(lambda: listener.on("fleet/other/info"))[-1].payload)
        assert info["session"] == status["session"] == publisher.stats().session
        assert status["session"] != json.loads(listener.on(STATUS)[-1].payload)["session"]
        assert listener.on("fleet/other/status")[-1].qos == 1
