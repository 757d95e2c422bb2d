"""A subscriber to what daemons publish: the other end of the contract, for `edgepose watch`, `demo` and `doctor`."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edgepose.config.schema import MqttConfig
from edgepose.errors import OutputError
from edgepose.mqtt.connect_errors import ConnectFailure, from_error, from_hang_up, from_reason
from edgepose.mqtt.settings import BrokerSettings

_log = logging.getLogger(__name__)

_RETRY_S = 1  # a viewer waits for the next message; paho takes whole seconds

Take = Callable[[str, bytes], None]
"""Receives topic and payload of a message, in the subscriber's thread."""


class Subscriber:
    """A connection that subscribes to topics and reconnects when it is lost; a context manager.

    The log records when the connection is lost and restored. It uses MQTT 3.1.1, which every broker supports, unless the
    configuration says 5: for a subscriber they are the same.
    """

    def __init__(self, mqtt: MqttConfig, topics: Sequence[str], take: Take) -> None:
        """
        Args:
            mqtt: the configuration's section.
            topics: to subscribe to; wildcards are allowed.
            take: receives each message.

        Raises:
            ConfigError: the password or a certificate cannot be read.
        """
        self._settings = BrokerSettings.read(mqtt)
        self._topics = [(topic, 1) for topic in topics]
        self._take = take
        self._answered = threading.Event()
        self._failure: ConnectFailure | None = None
        self._hosts = mqtt.hosts
        self._lost = self._leaving = False
        protocol = MQTTProtocolVersion.MQTTv5 if mqtt.protocol == "5" else MQTTProtocolVersion.MQTTv311
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.connect_timeout = self._settings.connect_timeout_s
        self._client.reconnect_delay_set(_RETRY_S, _RETRY_S)
        if self._settings.username is not None:
            self._client.username_pw_set(self._settings.username, self._settings.password)
        if self._settings.tls is not None:
            self._client.tls_set_context(self._settings.tls)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_connect_fail = lambda client, _: self._take_turns(client)
        self._client.on_message = self._on_message

    @property
    def _where(self) -> str:
        return f"MQTT broker {self._settings.host}:{self._settings.port}"

    def __enter__(self) -> "Subscriber":
        """Connect to the first host that accepts the connection within the connect timeout; OutputError where none does."""
        failures: list[OutputError] = []
        for host in self._hosts:
            self._settings = replace(self._settings, host=host)
            try:
                self._connect()
            except OutputError as error:
                failures.append(error)
            else:
                return self
        raise OutputError("; ".join(map(str, failures)))

    def _connect(self) -> None:
        self._answered.clear()
        self._failure = None
        deadline_s = time.monotonic() + self._settings.connect_timeout_s
        try:
            self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is not valid
            raise OutputError(f"{self._where}: {from_error(error, self._settings)}") from error
        self._client.loop_start()
        answered = self._answered.wait(max(0.1, deadline_s - time.monotonic()))
        if not answered or self._failure is not None:
            self._client.loop_stop()
            raise OutputError(f"{self._where}: {self._failure or 'unreachable: no answer'}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Disconnect."""
        self._leaving = True
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, _: object, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            self._failure = from_reason(str(reason).lower(), self._settings)
        else:
            self._failure = None
            if self._topics:
                client.subscribe(self._topics)
            if self._lost:
                self._lost = False
                _log.warning("%s is back", self._where)
        self._answered.set()

    def _on_disconnect(self, client: Client, _: object, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        if not self._answered.is_set():
            self._failure = from_hang_up(self._settings)
            self._answered.set()
        elif not self._lost and not self._leaving and self._failure is None:
            self._lost = True
            _log.warning("%s is lost (%s); trying again every %d s", self._where, _failure_of(flags, reason), _RETRY_S)
        if self._lost:
            self._take_turns(client)

    def _take_turns(self, client: Client) -> None:
        """Let paho's next attempt go to the next host, where there are several."""
        if len(self._hosts) == 1:
            return
        turn = (self._hosts.index(self._settings.host) + 1) % len(self._hosts)
        self._settings = replace(self._settings, host=self._hosts[turn])
        client.connect_async(self._settings.host, self._settings.port, self._settings.keepalive_s)

    def _on_message(self, client: Client, _: object, message: MQTTMessage) -> None:
        self._take(message.topic, bytes(message.payload))


def _failure_of(flags: DisconnectFlags, reason: ReasonCode) -> str:
    """Return the broker's reason where it gave one; paho's own are less specific."""
    if not flags.is_disconnect_packet_from_server:
        return "no answer" if reason == "Keep alive timeout" else "connection closed"
    return str(reason).lower()
