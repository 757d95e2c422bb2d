"""One session with a broker: a thread that connects, retries with backoff forever, and sends what waits while it is connected."""

import contextlib
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
from edgepose.mqtt.flow_control import POLL_S
from edgepose.mqtt.lease import OutboxLease
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.presence import Presence
from edgepose.mqtt.settings import ReloadingSettings

_log = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 16
"""Maximum number of messages with QoS 1 that wait for the broker's answer: below the receive maximum of every known broker."""

PROBE_S = 1.5
"""Longest wait for an answer to MQTT 5 before 3.1.1 is tried: some old ones (amqtt) fail on CONNECT and never answer."""

RECONNECT_INITIAL_S = 0.25
GOODBYE_S = 1.0
STEP_S = 1.0
REFUSED_TOPICS_LIMIT = 1000


class MqttSession:
    """The thread that talks to one broker.

    Args:
        mqtt: the configuration's section; password and certificates are read immediately, ConfigError names what cannot be used.
        client_id: without the characters that make it unique.
        presence: the status messages of the device in this session.
        lease: gives access to the messages that wait for the broker.
        inbox: takes commands; None subscribes to none.

    Attributes:
        presence: as above.
        lease: as above.
        state: `connected`, or the reason in a few words, such as `refused: not authorized` or `unreachable: connection refused`.
        protocol: MQTT version of the connection, or None without one.
        turns: turns of the loop so far; the number stands still only while a name is resolved or a connection opened.
    """

    def __init__(self, mqtt: schema.MqttConfig, client_id: str, presence: Presence, lease: OutboxLease, inbox: CommandInbox | None) -> None:
        self.presence = presence
        self.lease = lease
        self.state = "not started"
        self.protocol: Protocol | None = None
        self.turns = 0
        self._mqtt = mqtt
        self._settings = ReloadingSettings(mqtt)
        self._where = f"MQTT broker {self._settings.current.host}:{self._settings.current.port}"
        self._client_id = f"{client_id}-{presence.session[:8]}"
        self._command_inbox = inbox
        self._birth: Outgoing | None = None
        self._speaks_v5 = False  # whether this broker has used version 5
        self._silences = 0
        self._logged: set[str] = set()
        self._refused_topics: set[str] = set()
        self._stopping = threading.Event()
        self._stop_reason = ""
        self._stop_at_s = math.inf
        self._wake_writer: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def start(self, ready: threading.Event | None = None, ready_within_s: float = 0.0) -> None:
        """Start the thread; return immediately.

        Args:
            ready: what the thread waits for before it connects.
            ready_within_s: how long it waits at most.
        """
        reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)

        def run() -> None:
            if ready is not None:
                ready.wait(ready_within_s)
            with reader:
                self._run(reader)
            if self._wake_writer is not None:
                self._wake_writer.close()

        self._thread = threading.Thread(target=run, name="mqtt-publisher", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Return whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Tell the thread that there is something new in the outbox; from any thread."""
        if self._wake_writer is not None:
            with contextlib.suppress(OSError):  # full: the thread has been woken often enough; closed: it has ended
                self._wake_writer.send(b"\0")

    def end(self, reason: str, at_s: float) -> None:
        """Make the thread send what waits, publish `stopped` and end, at the latest at `at_s` of the monotonic clock."""
        self._stop_reason, self._stop_at_s = reason, at_s
        self._stopping.set()
        self.wake()

    def join(self, within_s: float) -> None:
        """Wait for the end of the thread."""
        if self._thread is not None:
            self._thread.join(within_s)

    def enter(self, state: str, failure: ConnectFailure | None = None) -> None:
        """Change the state and log the change; after `end` only `stopped` is accepted."""
        if state == self.state or (self._stopping.is_set() and state != "stopped"):
            return
        self.state = state
        if state in ("connected", "connecting", "stopped"):
            self._logged.clear()
            _log.info("%s: %s%s", self._where, state, f" with MQTT {self.protocol}" if state == "connected" else "")
        elif state not in self._logged:  # a broker that alternates between two failures does not fill the log
            self._logged.add(state)
            _log.warning("%s: %s; trying again", self._where, failure or state)

    def _run(self, wake: socket.socket) -> None:
        """Stay connected until `end`.

        Args:
            wake: readable when there is something new in the outbox.
        """
        attempt = 0
        while not self._stopping.is_set():
            self.turns += 1
            began_s = time.monotonic()
            preferred: Protocol = "3.1.1" if self._mqtt.protocol == "3.1.1" else "5"
            # A broker that has used version 5 before and does not answer is frozen, not old; after ten attempts it may be another broker.
            doubtful = not self._speaks_v5 or self._silences % 10 == 9
            if self._try(preferred, wake, doubtful=doubtful and self._mqtt.protocol == "auto"):
                self._try("3.1.1", wake, doubtful=False)
            attempt = 0 if time.monotonic() - began_s > self._mqtt.reconnect_maximum_s else attempt + 1
            # Full jitter: the devices that lost one broker do not all come back to it at the same time.
            self._stopping.wait(random.uniform(0, min(self._mqtt.reconnect_maximum_s, RECONNECT_INITIAL_S * 2 ** min(attempt, 20))))

    def _try(self, protocol: Protocol, wake: socket.socket, *, doubtful: bool) -> bool:
        """Run one connection from beginning to end; return whether an older version of MQTT may work instead.

        A broker that does not know version 5 refuses it, closes the connection, or does not answer.

        Args:
            protocol: version to speak.
            wake: as in `_run`.
            doubtful: whether a missing answer may mean that the broker does not know this version.
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
            self._speaks_v5 = (self._speaks_v5 or (protocol == "5" and bool(connection.accepted))) and not connection.unsupported
            if (doubtful and silent) or (connection.unsupported and self._mqtt.protocol == "auto"):
                return not self._stopping.is_set()
            if not self._stopping.is_set():
                failure = self._failure_of(connection)
                self.enter(failure.state, failure)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is not valid
            failure = from_error(error, self._settings.current)
            self.enter(failure.state, failure)
        except Exception:
            # An internal fault, or one of paho's, must neither end publishing permanently nor go unnoticed.
            _log.exception("%s: internal fault", self._where)
            self.enter("internal fault")
        return False

    def _connect(self, protocol: Protocol, wake: socket.socket, patience_s: float) -> Connection:
        """Return a connection on which the broker has answered, or has not within its time; OSError where nothing listens."""
        if self.state == "not started":
            self.enter("connecting")
        will = self.presence.status_message("offline", "the connection was lost")
        connection = Connection(self._settings.refresh(), protocol, self._client_id, will)
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
        """Publish until the connection or this session ends."""
        self.protocol = protocol
        self._birth = self.presence.status_message("online", "connected")
        self.lease.send_first(self._birth)
        self.lease.connected()
        connection.subscribe([self.presence.topic])
        if self._command_inbox is not None:
            connection.subscribe([self._command_inbox.topics], as_published=True)
        self.enter("connected")
        stopped_sent = False
        while connection.ended is None:
            self.turns += 1
            now_s = time.monotonic()
            stopping = self._stopping.is_set()
            if stopping:
                idle = not (self.lease.pending(latest=False) or connection.in_flight)
                if not stopped_sent and (idle or now_s > self._stop_at_s - GOODBYE_S):
                    self.lease.send_first(self.presence.status_message("stopped", self._stop_reason))
                    stopped_sent = True
                elif idle or now_s > self._stop_at_s:
                    connection.close(goodbye=not connection.backlog)
                    break
            if connection.stuck(now_s):
                connection.close(goodbye=False, reason="acknowledges nothing")
                break
            acknowledged, room = len(connection.in_flight) < IN_FLIGHT_LIMIT, connection.room()
            self.lease.blocked(not room)
            latest = room and not stopping
            timeout_s = min(STEP_S, max(0.0, self._stop_at_s - now_s)) if not stopping else 0.02
            sending = self.lease.pending(acknowledged=acknowledged, latest=latest)
            if not (sending or room or connection.backlog) and self.lease.pending(acknowledged=False):
                timeout_s = min(timeout_s, POLL_S)
            if connection.step(timeout_s, sending=sending):
                message = self.lease.pop(time.monotonic(), acknowledged=acknowledged, latest=latest)
                if message is not None:
                    connection.publish(message)
                    self.lease.count_sent()
            self._receive(connection)

    def _settle(self, connection: Connection) -> None:
        """Account for the messages that a connection took with it when it ended."""
        connection.close(goodbye=False)
        self._receive(connection)
        self.protocol = None
        self.lease.disconnected(connection.unwritten)

    def _failure_of(self, connection: Connection) -> ConnectFailure:
        ended = connection.ended or "closed"
        if connection.accepted:
            return ConnectFailure(f"lost: {ended}")
        if connection.accepted is False:
            return from_reason(ended, self._settings.current)
        if connection.alert is not None and (failure := from_alert(connection.alert)) is not None:
            return failure
        if connection.hung_up:
            return from_hang_up(self._settings.current, self.state)
        return ConnectFailure(f"unreachable: {ended}", "expected an MQTT broker there (keys mqtt.host, mqtt.port)")

    def _receive(self, connection: Connection) -> None:
        """Process what the broker sent: acknowledgements, refusals, status messages of other sessions, and commands."""
        for message in connection.acknowledged:
            self.lease.settle(message)
        connection.acknowledged.clear()
        for message, reason in connection.refused:
            self.lease.settle(message, lost="refused_by_broker")
            if message.topic not in self._refused_topics and len(self._refused_topics) < REFUSED_TOPICS_LIMIT:
                self._refused_topics.add(message.topic)
                _log.warning("%s refuses messages on %s: %s; expected the right to write there", self._where, message.topic, reason)
        connection.refused.clear()
        for incoming in connection.received:
            if incoming.topic == self.presence.topic:
                own = self._birth is not None and incoming.payload == self._birth.payload
                if not (self._stopping.is_set() or own) and self.presence.receive(incoming.payload, live=not incoming.stored):
                    assert self._birth is not None
                    self.lease.send_first(self._birth)
            elif self._command_inbox is not None and not self._stopping.is_set():
                self._command_inbox.take(incoming.topic, incoming.payload, incoming.stored, incoming.response_topic, incoming.correlation)
        connection.received.clear()
