"""One publisher over many sessions: what goes on when a session is replaced."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from msgspec.structs import replace as replaced_struct

import edgepose.mqtt.session
from edgepose.config.schema import CommandsConfig, Config, EventsConfig, MqttConfig
from edgepose.errors import ConfigError
from edgepose.messages.structs import CameraStatusMessage
from edgepose.mqtt.command_inbox import Command
from edgepose.mqtt.connection import Incoming
from edgepose.mqtt.lease import OutboxLease
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.presence import Presence
from edgepose.mqtt.publisher import ABANDONED_LIMIT, MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from testing.servers.both_sides import INFO
from testing.waiting import wait_for

STREAMING = CameraStatusMessage(camera="a", state="streaming", epoch=0, at="2026-11-22T10:00:00.000000Z")
SETTINGS = PublisherSettings(MqttConfig(connect_timeout_s=1, reconnect_maximum_s=1), "drone")


class Session:
    """A session whose thread does what we say."""

    made: ClassVar[list["Session"]] = []
    unreadable: ClassVar[bool] = False

    def __init__(self, mqtt: MqttConfig, client_id: str, presence: Presence, lease: OutboxLease, inbox: object, others: object) -> None:
        if Session.unreadable:
            raise ConfigError("the password cannot be read")
        self.client_id = client_id
        self.presence, self.lease, self.inbox = presence, lease, inbox
        self.state, self.protocol, self.turns, self.packet_bytes = "connected", "5", 0, None
        self.running = True
        self.stays = False  # whether it hangs when it is told to end
        self.ended: list[str] = []
        Session.made.append(self)

    def start(self, ready: threading.Event | None, ready_within_s: float) -> None:
        self.lease.connected()

    def alive(self) -> bool:
        return self.running

    def wake(self) -> None:
        pass

    def end(self, reason: str, at_s: float) -> None:
        self.ended.append(reason)
        self.running = self.running and self.stays

    def join(self, within_s: float) -> None:
        pass

    def enter(self, state: str) -> None:
        self.state = state

    def sent(self) -> dict[str, bytes]:
        """Sends all that waits; payloads by topic."""
        sent = {}
        while (message := self.lease.pop(time.monotonic(), acknowledged=True, latest=True)) is not None:
            self.lease.count_sent()
            sent[message.topic] = message.payload
        return sent


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    monkeypatch.setattr(edgepose.mqtt.session, "MqttSession", Session)
    monkeypatch.setattr(Session, "made", [])
    return Session.made


@pytest.mark.parametrize("fault", ["hangs", "has died"])
def test_a_session_that_hangs_or_died_is_replaced_and_all_states_are_said_again(
    fault: str, made: list[Session], caplog: pytest.LogCaptureFixture
) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start(INFO)
    publisher.publish_retained("cameras/a/status", b"streaming")
    publisher.publish_retained("cameras/b/status", b"streaming")
    publisher.clear("cameras/b/status")
    first = made[0]
    first.stays = fault == "hangs"
    publisher.publish_poses("a", b"1")
    publisher.publish_poses("a", b"2")
    assert len(first.sent()) == 4
    publisher.publish("cameras/a/events", b"taken", qos=1)
    assert first.lease.pop(0.0, acknowledged=True, latest=True) is not None
    now_s = time.monotonic()
    first.turns += 1
    publisher.supervise(now_s)
    publisher.supervise(now_s + 30)
    assert len(made) == 1
    if fault == "hangs":
        now_s += 1000
    else:
        first.running = False
    publisher.supervise(now_s)
    assert f"the publisher {fault}" in caplog.text
    assert first.ended == ["the publisher is replaced"]
    second = made[1]
    assert second.presence.session != first.presence.session
    said = second.sent()
    assert set(said) == {"edgepose/drone/info", "edgepose/drone/cameras/a/status", "edgepose/drone/cameras/a/events"}
    assert msgspec.json.decode(said["edgepose/drone/info"])["session"] == second.presence.session
    assert said["edgepose/drone/cameras/a/status"] == b"streaming"
    assert said["edgepose/drone/cameras/a/events"] == b"taken"  # the first had it and did not say that it arrived
    assert first.sent() == {}
    stats = publisher.stats()
    assert (stats.replaced, stats.sent, stats.drops, stats.reconnects) == (1, 7, {"superseded": 1}, 0)
    assert (stats.session, stats.events_waiting) == (second.presence.session, 1)


def test_at_most_four_threads_are_abandoned(made: list[Session]) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start()
    for _ in range(ABANDONED_LIMIT + 2):
        made[-1].stays = True
        made[-1].turns += 1
        publisher.supervise(time.monotonic())
        publisher.supervise(time.monotonic() + 1000)
    assert len(made) == 1 + ABANDONED_LIMIT
    assert publisher.stats().replaced == ABANDONED_LIMIT
    made[0].running = False  # one of them wakes and ends
    publisher.supervise(time.monotonic() + 1000)
    assert len(made) == 2 + ABANDONED_LIMIT


def test_a_session_that_cannot_be_opened_now_is_opened_at_a_later_turn(made: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start()
    publisher.publish_retained("cameras/a/status", b"streaming")
    made[0].running = False
    with monkeypatch.context() as unreadable:
        unreadable.setattr(Session, "unreadable", True)
        for _ in range(2):
            with pytest.raises(ConfigError):
                publisher.supervise(time.monotonic())
        assert not publisher.stats().connected
        publisher.publish("cameras/a/events", b"fallen", qos=1)
    publisher.supervise(time.monotonic())
    assert made[1].sent() == {"edgepose/drone/cameras/a/status": b"streaming", "edgepose/drone/cameras/a/events": b"fallen"}


def test_a_change_that_cannot_be_opened_is_opened_at_a_later_turn(made: list[Session], monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start(INFO)
    other = PublisherSettings(MqttConfig(host="other"), "drone")
    with monkeypatch.context() as unreadable:
        unreadable.setattr(Session, "unreadable", True)
        with pytest.raises(ConfigError):
            publisher.change(other, None, "another configuration")
    assert made[0].ended == ["another configuration"]
    publisher.supervise(time.monotonic())
    assert set(made[1].sent()) == {"edgepose/drone/info"}


def test_another_prefix_and_encoding_encode_the_states_again(made: list[Session]) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start(INFO)
    publisher.publish_retained("cameras/a/status", STREAMING)
    assert msgspec.json.decode(made[0].sent()["edgepose/drone/cameras/a/status"])["state"] == "streaming"
    settings = PublisherSettings(MqttConfig(prefix="fleet", encoding="msgpack"), "other")
    publisher.change(settings, replaced_struct(INFO, device="other"), "another configuration")
    assert made[1].presence.topic == "fleet/other/status"
    assert made[1].client_id == "edgepose-other"
    said = made[1].sent()
    assert set(said) == {"fleet/other/info", "fleet/other/cameras/a/status"}
    assert msgspec.msgpack.decode(said["fleet/other/cameras/a/status"])["state"] == "streaming"
    assert msgspec.msgpack.decode(said["fleet/other/info"])["device"] == "other"


def test_counters_go_on_where_the_broker_is_turned_off_and_on(made: list[Session]) -> None:
    publisher = MqttPublisher(SETTINGS, lambda _: None)
    publisher.start(INFO)
    publisher.publish("health", b"1")
    assert len(made[0].sent()) == 2
    publisher.change(PublisherSettings(MqttConfig(enabled=False), "drone"), None, "another configuration")
    stats = publisher.stats()
    assert (stats.enabled, stats.state, stats.commands_ignored, len(made)) == (False, "disabled", None, 1)
    publisher.publish("health", b"2")
    publisher.publish("cameras/a/events", b"fallen", qos=1)
    publisher.publish_poses("a", b"3")
    publisher.publish_retained("cameras/a/status", b"streaming")
    publisher.supervise(time.monotonic())
    assert publisher.stats().drops == {}
    publisher.change(PublisherSettings(SETTINGS.mqtt, "drone", commands=True), None, "another configuration")
    assert set(made[1].sent()) == {"edgepose/drone/info", "edgepose/drone/cameras/a/status"}
    stats = publisher.stats()
    assert (stats.enabled, stats.sent, stats.commands_ignored) == (True, 4, {})


def test_ignored_commands_are_counted_across_sessions(made: list[Session]) -> None:
    publisher = MqttPublisher(PublisherSettings(SETTINGS.mqtt, "drone", commands=True), lambda _: None)
    publisher.start()
    for number in range(2):
        inbox: Any = made[number].inbox
        inbox.take(Incoming("edgepose/drone/command/pause", b"{}", True, None, None))
        publisher.change(PublisherSettings(SETTINGS.mqtt, "drone", commands=True), None, "another configuration")
    assert publisher.stats().commands_ignored == {"retained": 2}


def stored(path: Path, device: str = "drone") -> PublisherSettings:
    return PublisherSettings(SETTINGS.mqtt, device, store=path)


def held(publisher: MqttPublisher, messages: Callable[[], list[Outgoing]]) -> bool:
    store: Any = publisher._store
    return all(map(store.holds, messages()))


def test_events_move_to_another_store_and_stay_in_theirs_without_a_broker(made: list[Session], tmp_path: Path) -> None:
    publisher = MqttPublisher(stored(tmp_path / "a.db"))
    publisher.start()
    publisher.publish("cameras/a/events", b"fallen", qos=1)
    publisher.change(stored(tmp_path / "b.db"), None, "another configuration")
    wait_for(lambda: held(publisher, publisher._outbox.queued))
    publisher.change(PublisherSettings(MqttConfig(enabled=False), "drone", store=tmp_path / "b.db"), None, "another configuration")
    assert publisher.stats().events_waiting == 1
    publisher.change(stored(tmp_path / "b.db"), None, "another configuration")
    wait_for(lambda: len(publisher._outbox.queued()) == 1)
    assert publisher.stats().events_waiting == 1
    assert made[-1].sent() == {"edgepose/drone/cameras/a/events": b"fallen"}
    publisher.change(stored(tmp_path / "a.db", "other"), None, "another configuration")
    assert publisher.stats().events_waiting == 1  # what had moved is not there twice
    publisher.stop()
    assert publisher.stats().drops == {}


def test_a_state_that_cannot_be_encoded_is_the_callers_error_and_reaches_no_session(made: list[Session]) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start()
    with pytest.raises(UnicodeEncodeError):
        publisher.publish_retained("cameras/a/status", replaced_struct(STREAMING, detail="\udcff.jpg"))
    publisher.publish_retained("cameras/a/status", STREAMING)
    message = made[0].lease.pop(0, acknowledged=True, latest=True)
    assert message is not None
    assert b"streaming" in message.payload


def test_an_event_during_the_stop_is_left_to_the_store(made: list[Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = MqttPublisher(stored(tmp_path / "events.db"))
    publisher.start()
    close = publisher._outbox.close

    def close_and_publish() -> None:
        close()
        publisher.publish("cameras/a/events", b"late", qos=1)

    monkeypatch.setattr(publisher._outbox, "close", close_and_publish)
    publisher.stop()
    assert publisher.stats().drops == {}
    again = MqttPublisher(stored(tmp_path / "events.db"))
    again.start()
    wait_for(lambda: again.stats().events_waiting == 1)
    again.stop()


def test_what_a_former_store_keeps_does_not_wait_any_more(made: list[Session], tmp_path: Path) -> None:
    publisher = MqttPublisher(stored(tmp_path / "events.db"))
    publisher.start()
    publisher.publish("cameras/a/events", b"1", qos=1)
    wait_for(lambda: held(publisher, publisher._outbox.queued))
    publisher.change(PublisherSettings(MqttConfig(enabled=False), "drone", store=tmp_path / "events.db"), None, "off")
    assert publisher.stats().events_waiting == 1
    publisher.change(SETTINGS, None, "on, without a store")
    assert publisher.stats().events_waiting == 0
    publisher.stop()


def test_a_smaller_queue_loses_its_oldest(made: list[Session]) -> None:
    publisher = MqttPublisher(SETTINGS)
    publisher.start()
    for number in range(5):
        publisher.publish("cameras/a/events", bytes([number]), qos=1)
    publisher.change(PublisherSettings(SETTINGS.mqtt, "drone", queue_limit=2), None, "another configuration")
    stats = publisher.stats()
    assert (stats.events_limit, stats.events_waiting, stats.drops) == (2, 2, {"queue_full": 3})


def test_settings_are_those_of_the_configuration() -> None:
    config = Config(device="drone", commands=CommandsConfig(enabled=True), events=EventsConfig(store="x.db", store_limit=7))
    assert PublisherSettings.of(config) == PublisherSettings(MqttConfig(), "drone", True, Path("x.db"), 7)
    assert PublisherSettings.of(replaced_struct(config, events=EventsConfig(enabled=False, store="x.db"))).store is None


def test_the_publisher_shows_its_status_as_a_value() -> None:
    assert sum(isinstance(member, property) for member in vars(MqttPublisher).values()) <= 4
    package = Path(edgepose.__file__).parent
    assert not [path for path in package.rglob("*.py") if "_former" + "_" in path.read_text()]


def test_replies_are_not_moved_into_a_store(made: list[Session], tmp_path: Path) -> None:
    publisher = MqttPublisher(PublisherSettings(SETTINGS.mqtt, "drone", commands=True), lambda _: None)
    publisher.start()
    publisher.reply(Command("pause", b"{}", None, None), b"done")
    publisher.publish("cameras/a/events", b"fallen", qos=1)
    publisher.change(PublisherSettings(SETTINGS.mqtt, "drone", commands=True, store=tmp_path / "a.db"), None, "another configuration")
    store: Any = publisher._store
    wait_for(lambda: [store.holds(message) for message in publisher._outbox.queued()] == [False, True])
    publisher.stop()
