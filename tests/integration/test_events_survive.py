"""Events lost: none, whatever happens to broker and daemon while they wait."""

import subprocess
import sys
import time

import pytest

from edgepose.mqtt.outbox import Outgoing
from edgepose.storage.event_store import EventStore
from testing.faults.relay import Relay
from testing.servers.both_sides import Listener, publishing
from testing.servers.mosquitto import Mosquitto
from testing.waiting import wait_for

EVENTS = "edgepose/drone/cameras/front/events"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "events.db"


def publish(publisher, numbers):
    for number in numbers:
        publisher.publish("cameras/front/events", str(number).encode(), qos=1)


def numbers(listener):
    return [int(message.payload) for message in listener.on(EVENTS)]


def once_each(heard):
    """Without repetitions, as a subscriber does it by `id`."""
    return list(dict.fromkeys(heard))


CHILD = """
import sys, time
from pathlib import Path
from edgepose.config.schema import MqttConfig
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
port, store, first, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
publisher = MqttPublisher(PublisherSettings(MqttConfig(host="127.0.0.1", port=port, keepalive_s=2), "drone", store=store))
publisher.start()
for number in range(first, first + count):
    publisher.publish("cameras/front/events", str(number).encode(), qos=1)
while not all(map(publisher._store.holds, publisher._outbox.queued())):
    time.sleep(0.01)
print("kept", flush=True)
sys.stdin.read()
"""


def killed_with(port, store, first, count):
    """A daemon that has events and no broker, and dies by SIGKILL."""
    command = [sys.executable, "-c", CHILD, str(port), str(store), str(first), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"kept\n"
        child.kill()


def test_events_of_two_killed_daemons_arrive_by_the_third(tmp_path, store, monkeypatch):
    take_over = EventStore._take_over

    def take_over_slowly(store: EventStore[Outgoing], rows: dict[int, tuple[str, bytes]]) -> None:
        time.sleep(0.3)  # a slow card
        take_over(store, rows)

    monkeypatch.setattr(EventStore, "_take_over", take_over_slowly)
    broker = Mosquitto(tmp_path)
    killed_with(broker.port, store, 0, 200)
    killed_with(broker.port, store, 200, 100)
    with broker, Listener(broker.port) as listener, publishing(broker.port, store=store) as publisher:
        publish(publisher, [300])
        wait_for(lambda: 300 in numbers(listener) and publisher.stats().events_waiting == 0)
        assert once_each(numbers(listener)) == list(range(301))
        assert publisher.stats().drops == {}
    with Mosquitto(tmp_path) as other, publishing(other.port, store=store) as publisher, Listener(other.port) as listener:
        publish(publisher, [301])
        wait_for(lambda: 301 in numbers(listener))
        assert numbers(listener) == [301]  # what has arrived is not said again


def test_two_hundred_queued_events_outlive_the_broker(broker, store):
    with Relay(broker.port) as way, publishing(way.port, store=store, keepalive_s=2) as publisher:
        wait_for(lambda: publisher.stats().connected)
        broker.freeze()
        publish(publisher, range(200))
        wait_for(lambda: publisher.stats().sent >= 16)
        assert publisher.stats().events_waiting == 200
        way.shut()
        broker.restart()  # without persistence: it knows of nothing
        with Listener(broker.port) as listener:
            way.open()  # not before: what nobody has subscribed to is nobody's
            wait_for(lambda: publisher.stats().events_waiting == 0, promised_s=8)
            wait_for(lambda: len(set(numbers(listener))) == 200)
            assert once_each(numbers(listener)) == list(range(200))
            assert listener.states()[-1] == "online"
            wait_for(lambda: listener.on("edgepose/drone/info"))
        assert (publisher.stats().drops, publisher.stats().reconnects) == ({}, 1)


def test_a_frozen_broker_that_thaws_gets_all(broker, store):
    with Listener(broker.port) as listener, publishing(broker.port, store=store, keepalive_s=2) as publisher:
        wait_for(lambda: publisher.stats().connected)
        broker.freeze()
        publish(publisher, range(100))
        wait_for(lambda: not publisher.stats().connected, within_s=10)
        publish(publisher, range(100, 200))
        wait_for(lambda: publisher.stats().state == "unreachable: no answer", within_s=15)
        broker.thaw()
        wait_for(lambda: publisher.stats().events_waiting == 0, within_s=10)
        wait_for(lambda: len(set(numbers(listener))) == 200)
        assert (publisher.stats().drops, publisher.stats().protocol) == ({}, "5")  # its silence was not taken for old age


def test_stopping_keeps_what_the_broker_has_not(tmp_path, store):
    broker = Mosquitto(tmp_path)
    with publishing(broker.port, store=store) as publisher:
        publish(publisher, range(50))
        publisher.stop()
        publish(publisher, [50])
        assert publisher.stats().drops == {"stopped": 1}
        assert publisher.stats().events_waiting == 50
    with broker, Listener(broker.port) as listener, publishing(broker.port, store=store) as publisher:
        wait_for(lambda: len(numbers(listener)) == 50)
        assert numbers(listener) == list(range(50))


def test_two_daemons_do_not_share_a_store(broker, store):
    with publishing(broker.port, store=store) as one, publishing(broker.port, store=store) as two, Listener(broker.port) as listener:
        wait_for(lambda: "another process has it open" in (one.stats().store_failure, two.stats().store_failure))
        publish(one, range(20))
        publish(two, range(20, 40))
        wait_for(lambda: len(numbers(listener)) == 40)
        assert sorted(numbers(listener)) == list(range(40))


def test_what_the_broker_will_not_have_is_not_tried_for_ever(tmp_path, store):
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite edgepose/drone/status\ntopic write edgepose/drone/info\n")
    with Mosquitto(tmp_path, lines=f"acl_file {acl}") as broker:
        for _ in range(2):
            with publishing(broker.port, store=store) as publisher:
                publish(publisher, range(3))
                wait_for(lambda publisher=publisher: publisher.stats().events_waiting == 0)  # type: ignore[misc]
                assert publisher.stats().drops["refused_by_broker"] == 3


def test_of_too_many_the_oldest_go_on_disk_as_well(tmp_path, store):
    broker = Mosquitto(tmp_path)
    with publishing(broker.port, store=store, queue_limit=30) as publisher:
        publish(publisher, range(100))
        assert (publisher.stats().drops, publisher.stats().events_waiting) == ({"queue_full": 70}, 30)
    with broker, Listener(broker.port) as listener, publishing(broker.port, store=store, queue_limit=30):
        wait_for(lambda: len(numbers(listener)) == 30)
        assert numbers(listener) == list(range(70, 100))
