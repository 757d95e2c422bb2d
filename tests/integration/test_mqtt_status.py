"""What the publisher says of itself at a real broker: online, stopped, offline by its will, and what daemons of one name hear."""

import json
import signal
import subprocess
import sys
import time

from paho.mqtt.publish import single

from edgepose.config.schema import MqttConfig
from edgepose.mqtt.presence import EngineBuild
from edgepose.mqtt.settings import PublisherSettings
from testing.servers.both_sides import STATUS, Listener, publishing
from testing.servers.mosquitto import Mosquitto
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
