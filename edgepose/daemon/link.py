"""The publisher in use, which can be exchanged while everything runs: counts go on, and states are said again."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.messages.structs import CommandReplyMessage, InfoMessage, Message, PosesMessage
from edgepose.mqtt.command_inbox import Command
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.supervision.heartbeat import Heartbeat

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0  # a name server that is away holds its caller up for half a minute
_ABANDONED_LIMIT = 4  # threads that hang and were replaced


def open_publisher(config: Config, obey: Callable[[Command], None] | None = None) -> MqttPublisher | None:
    """The publisher of a configuration, None where there is none; ConfigError where a password or certificate cannot be read.

    Args:
        obey: takes commands, where they are enabled; from the publisher's thread.
    """
    if not config.mqtt.enabled:
        return None
    store = Path(config.events.store) if config.events.enabled and config.events.store is not None else None
    commands = obey if config.commands.enabled else None
    return MqttPublisher(config.mqtt, device_name(config), commands, store=store, queue_limit=config.events.store_limit)


class Link:
    """Publishes through the publisher in use, or not at all where there is none; safe for any number of threads.

    Attributes:
        pulse: of the publisher's thread; beaten by `look`.
        replaced: publishers that hung, or whose thread died, and were replaced.
    """

    def __init__(self, config: Config, obey: Callable[[Command], None] | None = None) -> None:
        """ConfigError where a password or certificate cannot be read."""
        self._obey = obey
        self._publisher = open_publisher(config, obey)
        self._info: Callable[[str], InfoMessage] | None = None
        self._states: dict[str, Message | bytes] = {}
        self._lock = threading.Lock()  # guards _states against an exchange
        self._former_sent = 0
        self._former_reconnects = 0
        self._former_drops: Counter[str] = Counter()
        self._former_ignored: Counter[str] = Counter()
        self._abandoned: list[threading.Thread] = []
        self._turns = -1
        self._missing = False  # whether there should be a publisher, and none could be opened
        self._bound(config)
        self.replaced = 0

    def _bound(self, config: Config) -> None:
        self.heartbeat = Heartbeat(_PATIENCE_S + config.mqtt.connect_timeout_s + config.mqtt.reconnect_maximum_s)

    @property
    def publisher(self) -> MqttPublisher | None:
        """In use now."""
        return self._publisher

    @property
    def connected(self) -> bool:
        """Whether a broker has let us in."""
        return self._publisher is not None and self._publisher.connected

    @property
    def sent(self) -> int:
        """Messages handed to the network since the daemon's start."""
        return self._former_sent + (self._publisher.sent if self._publisher is not None else 0)

    @property
    def drops(self) -> dict[str, int]:
        """Messages lost since the daemon's start, by cause."""
        return dict(self._former_drops + Counter(self._publisher.drops if self._publisher is not None else {}))

    @property
    def commands_ignored(self) -> dict[str, int] | None:
        """Commands that were not even looked at since the daemon's start, by cause; None where none are heard."""
        ignored = self._publisher.commands_ignored if self._publisher is not None else None
        return None if ignored is None else dict(self._former_ignored + Counter(ignored))

    @property
    def reconnects(self) -> int:
        """Times that the broker came back since the daemon's start."""
        return self._former_reconnects + (self._publisher.reconnects if self._publisher is not None else 0)

    @property
    def events_waiting(self) -> int:
        """Events that the broker has not got yet."""
        return self._publisher.events_waiting if self._publisher is not None else 0

    @property
    def store_failed(self) -> bool:
        """Whether events are in memory only, since their file cannot be written."""
        return self._publisher is not None and self._publisher.store_failure is not None

    @property
    def duplicate_session(self) -> str | None:
        """Session of another daemon that publishes under our name, None where there is none."""
        return self._publisher.duplicate_session if self._publisher is not None else None

    def start(self, info: Callable[[str], InfoMessage], within_s: float = 0.0) -> None:
        """Begins to connect.

        Args:
            info: what runs on the device, for a session.
            within_s: how long to wait for the broker.
        """
        self._info = info
        if self._publisher is None:
            return
        self._publisher.start(info(self._publisher.session))
        deadline_s = time.monotonic() + within_s
        while not self._publisher.connected and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def say_info(self) -> None:
        """Says anew what runs on the device."""
        if self._publisher is not None and self._info is not None:
            self._publisher.publish_retained("info", self._info(self._publisher.session))

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        """Hands over the poses of one frame; never blocks."""
        if self._publisher is not None:
            self._publisher.publish_poses(camera, payload)

    def publish_retained(self, address: str, payload: Message | bytes) -> None:
        """Sets the state of a topic."""
        with self._lock:
            self._states[address] = payload
            if self._publisher is not None:
                self._publisher.publish_retained(address, payload)

    def publish(self, address: str, payload: Message | bytes, qos: Literal[0, 1] = 0) -> None:
        """Publishes once."""
        if self._publisher is not None:
            self._publisher.publish(address, payload, qos)

    def reply(self, command: Command, message: CommandReplyMessage) -> None:
        """Answers a command."""
        if self._publisher is not None:
            self._publisher.reply(command, message)

    def forget(self, address: str) -> None:
        """Clears the state of a topic: what it was about is no more."""
        with self._lock:
            self._states.pop(address, None)
            if self._publisher is not None:
                self._publisher.publish_retained(address, b"")

    def look(self, config: Config, now_s: float) -> None:
        """Beats the pulse where the publisher's thread has turned, and replaces a publisher that hangs or has died.

        ConfigError where a password or certificate cannot be read any more; the next look tries again.
        """
        publisher = self._publisher
        if publisher is None:
            self.heartbeat.end()
            if self._missing:
                self._begin(config)
            return
        if publisher.turns != self._turns:
            self._turns = publisher.turns
            self.heartbeat.beat(self.heartbeat.bound_s)
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        if (self.heartbeat.stuck(now_s) or not publisher.alive) and len(self._abandoned) < _ABANDONED_LIMIT:
            _log.error("the publisher %s; another takes its place", "hangs" if publisher.alive else "has died")
            self.replaced += 1
            self._retire(publisher, "the publisher is replaced", wait=False)
            self._begin(config)

    def exchange(self, config: Config, reason: str) -> None:
        """Says goodbye to the broker and goes on with another one, or none.

        ConfigError where a password or certificate cannot be read: then nothing is published any more, so read them before.
        """
        if self._publisher is not None:
            self._retire(self._publisher, reason, wait=True)
        self._begin(config)

    def stop(self, reason: str, within_s: float) -> None:
        """Sends what is queued and says goodbye; takes half a second more where the broker is frozen."""
        if self._publisher is not None:
            self._publisher.stop(reason, within_s)

    def _retire(self, publisher: MqttPublisher, reason: str, *, wait: bool) -> None:
        stopping = threading.Thread(target=publisher.stop, args=(reason,), name="publisher-goodbye", daemon=True)
        stopping.start()
        if wait:
            stopping.join()
        elif publisher.alive:
            self._abandoned.append(stopping)
        with self._lock:
            self._publisher = None
            self._former_sent += publisher.sent
            self._former_reconnects += publisher.reconnects
            self._former_drops += Counter(publisher.drops)
            self._former_ignored += Counter(publisher.commands_ignored or {})

    def _begin(self, config: Config) -> None:
        self._missing = True
        publisher = open_publisher(config, self._obey)
        self._missing = False
        self._turns = -1
        self._bound(config)
        if publisher is None:
            return
        publisher.start(self._info(publisher.session) if self._info is not None else None)
        with self._lock:
            self._publisher = publisher
            for address, payload in self._states.items():
                publisher.publish_retained(address, payload)
