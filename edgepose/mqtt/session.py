"""The thread between the outbox and the broker: connects, for ever and politely, and sends what waits while it is let in."""

import logging
import math
import random
import socket
import threading
import time

from edgepose.config import schema
from edgepose.mqtt.command_inbox import CommandInbox
from edgepose.mqtt.connect_errors import ConnectFailure, from_alert, from_error, from_hang_up, from_reason
from edgepose.mqtt.connection import Connection, Protocol
from edgepose.mqtt.credentials import BrokerSettingsFiles
from edgepose.mqtt.flow_control import POLL_S
from edgepose.mqtt.outbox import Outbox, Outgoing
from edgepose.mqtt.presence import Presence

logger = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 16
"""Most messages with QoS 1 that wait for the broker's answer: fewer than any broker's receive maximum that we know."""

PROBE_S = 1.5
"""How long a broker may think about MQTT 5 before 3.1.1 is tried: some old ones (amqtt) trip over CONNECT and never answer."""

RECONNECT_INITIAL_S = 0.25
GOODBYE_S = 1.0
STEP_S = 1.0
REFUSED_TOPICS_LIMIT = 1000


class MqttSession:
    """What one thread does with a broker.

    Args:
        mqtt: the configuration's section; password and certificates are read at once, ConfigError names what cannot be used.
        client_id: without the characters that make it unique.
        presence: what is said of the device.
        outbox: what waits for the broker.
        desk: takes commands; None hears none.

    Attributes:
        state: `connected`, or in few words why not.
        protocol: MQTT version of the connection, or None without one.
        sent: messages handed to the network.
        connections: times that the broker let us in.
        turns: of the loop; they stand still only while a name is looked up or a connection opened.
    """

    def __init__(self, mqtt: schema.MqttConfig, client_id: str, presence: Presence, outbox: Outbox, inbox: CommandInbox | None) -> None:
        self.state = "not started"
        self.protocol: Protocol | None = None
        self.sent = 0
        self.connections = 0
        self.turns = 0
        self._mqtt = mqtt
        self._files = BrokerSettingsFiles(mqtt)
        self._where = f"MQTT broker {self._files.settings.host}:{self._files.settings.port}"
        self._client_id = f"{client_id}-{presence.session[:8]}"
        self._presence = presence
        self._outbox = outbox
        self._command_inbox = inbox
        self._birth: Outgoing | None = None
        self._modern = False  # whether this broker has spoken version 5
        self._silences = 0
        self._told: set[str] = set()
        self._refused_topics: set[str] = set()
        self._stopping = threading.Event()
        self._stop_reason = ""
        self._stop_at_s = math.inf

    @property
    def ending(self) -> bool:
        """Whether `end` was called."""
        return self._stopping.is_set()

    def end(self, reason: str, at_s: float) -> None:
        """Make `run` send what waits, say `stopped` and return, at the latest at a reading of the monotonic clock."""
        self._stop_reason, self._stop_at_s = reason, at_s
        self._stopping.set()

    def run(self, wake: socket.socket) -> None:
        """Keep connected until `end`.

        Args:
            wake: a socket that is readable when there is something new in the outbox.
        """
        attempt = 0
        while not self._stopping.is_set():
            self.turns += 1
            began_s = time.monotonic()
            preferred: Protocol = "3.1.1" if self._mqtt.protocol == "3.1.1" else "5"
            # A broker that has spoken version 5 and is silent is frozen, not old; one day it may be another broker, though.
            doubtful = not self._modern or self._silences % 10 == 9
            if self._try(preferred, wake, doubtful=doubtful and self._mqtt.protocol == "auto"):
                self._try("3.1.1", wake, doubtful=False)
            attempt = 0 if time.monotonic() - began_s > self._mqtt.reconnect_maximum_s else attempt + 1
            # Full jitter: all the devices that lost one broker do not come back to it at once.
            self._stopping.wait(random.uniform(0, min(self._mqtt.reconnect_maximum_s, RECONNECT_INITIAL_S * 2 ** min(attempt, 20))))

    def _try(self, protocol: Protocol, wake: socket.socket, *, doubtful: bool) -> bool:
        """One connection from beginning to end; True where an older version of MQTT may have better luck.

        A broker that does not know version 5 refuses it, hangs up on it, or says nothing at all.

        Args:
            protocol: version to speak.
            wake: as in `run`.
            doubtful: whether the broker may not know this version, so that its silence means that.
        """
        try:
            connection = self._connect(protocol, wake, PROBE_S if doubtful else math.inf)
            try:
                if connection.accepted:
                    self._serve(connection, protocol)
            finally:
                self._settle(connection)
            silent = connection.accepted is None and connection.alert is None
            self._silences = self._silences + 1 if silent else 0
            self._modern = (self._modern or (protocol == "5" and bool(connection.accepted))) and not connection.unsupported
            if (doubtful and silent) or (connection.unsupported and self._mqtt.protocol == "auto"):
                return not self._stopping.is_set()
            if not self._stopping.is_set():
                failure = self._failure_of(connection)
                self.enter(failure.state, failure)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            failure = from_error(error, self._files.settings)
            self.enter(failure.state, failure)
        except Exception:
            # A fault of ours or of paho's must not end the output for good, nor go unseen.
            logger.exception("%s: internal fault", self._where)
            self.enter("internal fault")
        return False

    def _connect(self, protocol: Protocol, wake: socket.socket, patience_s: float) -> Connection:
        """A connection on which the broker has answered, or has not within its time; OSError where nobody listens."""
        if self.state == "not started":
            self.enter("connecting")
        will = self._presence.say("offline", "the device vanished without a word")
        connection = Connection(self._files.refresh(), protocol, self._client_id, will)
        connection.open(wake)
        deadline_s = time.monotonic() + min(patience_s, self._mqtt.connect_timeout_s)
        while connection.accepted is None and connection.ended is None and not self._stopping.is_set():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                connection.close(goodbye=False, reason="no answer")
                break
            connection.step(min(left_s, STEP_S), sending=False)
        return connection

    def _serve(self, connection: Connection, protocol: Protocol) -> None:
        """Publish until the connection or this publisher ends."""
        self.protocol = protocol
        self.connections += 1
        self._birth = self._presence.say("online", "connected")
        self._outbox.put_retained(self._birth)
        self._outbox.connected()
        connection.subscribe([self._presence.topic])
        if self._command_inbox is not None:
            connection.subscribe([self._command_inbox.topics], as_published=True)
        self.enter("connected")
        said_stopped = False
        while connection.ended is None:
            self.turns += 1
            now_s = time.monotonic()
            if self._stopping.is_set():
                idle = not (self._outbox.pending() or connection.in_flight)
                if not said_stopped and (idle or now_s > self._stop_at_s - GOODBYE_S):
                    self._outbox.put_retained(self._presence.say("stopped", self._stop_reason))
                    said_stopped = True
                elif idle or now_s > self._stop_at_s:
                    connection.close(goodbye=not connection.backlog)
                    break
            if connection.stuck(now_s):
                connection.close(goodbye=False, reason="acknowledges nothing")
                break
            acknowledged, latest = len(connection.in_flight) < IN_FLIGHT_LIMIT, connection.room()
            self._outbox.blocked(not latest)
            timeout_s = min(STEP_S, max(0.0, self._stop_at_s - now_s)) if not self._stopping.is_set() else 0.02
            sending = self._outbox.pending(acknowledged=acknowledged, latest=latest)
            if not (sending or latest or connection.backlog) and self._outbox.pending(acknowledged=False):
                timeout_s = min(timeout_s, POLL_S)
            if connection.step(timeout_s, sending=sending):
                message = self._outbox.pop(time.monotonic(), acknowledged=acknowledged, latest=latest)
                if message is not None:
                    connection.publish(message)
                    self.sent += 1
            self._hear(connection)

    def _settle(self, connection: Connection) -> None:
        """Account for what a connection that is over took with it."""
        connection.close(goodbye=False)
        self._hear(connection)
        self.protocol = None
        self._outbox.disconnected()
        self._outbox.lost("connection_lost", connection.unwritten)
        self._outbox.put_back([message for message in connection.in_flight.values() if not message.retained])

    def _failure_of(self, connection: Connection) -> ConnectFailure:
        ended = connection.ended or "closed"
        if connection.accepted:
            return ConnectFailure(f"lost: {ended}")
        if connection.accepted is False:
            return from_reason(ended, self._files.settings)
        if connection.alert is not None and (failure := from_alert(connection.alert)) is not None:
            return failure
        if connection.hung_up:
            return from_hang_up(self._files.settings, self.state)
        return ConnectFailure(f"unreachable: {ended}", "expected an MQTT broker there (keys mqtt.host, mqtt.port)")

    def _hear(self, connection: Connection) -> None:
        """Look at what the broker said: messages it has, or would not take, strangers on our status topic, and commands."""
        for message in connection.acknowledged:
            self._outbox.settle(message)
        connection.acknowledged.clear()
        for message, reason in connection.refused:
            self._outbox.settle(message, lost="refused_by_broker")
            if message.topic not in self._refused_topics and len(self._refused_topics) < REFUSED_TOPICS_LIMIT:
                self._refused_topics.add(message.topic)
                logger.warning("%s refuses messages on %s: %s; expected the right to write there", self._where, message.topic, reason)
        connection.refused.clear()
        for incoming in connection.received:
            if incoming.topic == self._presence.topic:
                ours = self._birth is not None and incoming.payload == self._birth.payload
                if not (self._stopping.is_set() or ours) and self._presence.hear(incoming.payload, live=not incoming.stored):
                    assert self._birth is not None
                    self._outbox.put_retained(self._birth)
            elif self._command_inbox is not None and not self._stopping.is_set():
                self._command_inbox.take(incoming.topic, incoming.payload, incoming.stored, incoming.response_topic, incoming.correlation)
        connection.received.clear()

    def enter(self, state: str, failure: ConnectFailure | None = None) -> None:
        """Be in a state, and say so if that is news; after `end` only `stopped` is."""
        if state == self.state or (self._stopping.is_set() and state != "stopped"):
            return
        self.state = state
        if state in ("connected", "connecting", "stopped"):
            self._told.clear()
            logger.info("%s: %s%s", self._where, state, f" with MQTT {self.protocol}" if state == "connected" else "")
        elif state not in self._told:  # a broker that changes its mind at every attempt does not fill the log
            self._told.add(state)
            logger.warning("%s: %s; trying again", self._where, failure or state)
