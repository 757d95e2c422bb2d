"""The publisher while a real broker is away, frozen or behind a slow network: bounded, fresh, and nothing that must arrive is lost."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edgepose.mqtt.connection import Connection
from testing.faults import network
from testing.faults.relay import Relay
from testing.servers.both_sides import Listener, publishing
from testing.servers.mosquitto import Mosquitto
from testing.waiting import in_time, wait_for


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
