"""One session with a broker: a thread that connects, retries with backoff forever, and sends what waits while it is connected."""

import contextlib
import logging
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from edgepose.config import schema
from edgepose.messages.home_assistant import BIRTH, birth_topic, discovery_topics, is_discovery
from edgepose.mqtt.command_inbox import CommandInbox
from edgepose.mqtt.connect_errors import ConnectFailure, from_alert, from_error, from_hang_up, from_other_protocol, from_reason
from edgepose.mqtt.connection import NOT_MQTT, WILL_REFUSALS, Connection, Incoming, Protocol
from edgepose.mqtt.flow_control import POLL_S
from edgepose.mqtt.lease import OutboxLease
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.presence import EngineBuild, Presence
from edgepose.mqtt.protocol import Grants, Tolerance, matches_any
from edgepose.mqtt.settings import BrokerSettings, ReloadingSettings
from edgepose.printable import printable

_log = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 16
"""Maximum number of messages with QoS 1 that wait for the broker's answer, where it does not grant less (Receive Maximum)."""

PROBE_S = 1.5
"""Longest wait for an answer to MQTT 5 before 3.1.1 is tried: some old ones (amqtt) fail on CONNECT and never answer."""

RECONNECT_INITIAL_S = 0.25
GOODBYE_S = 1.0
STEP_S = 1.0
NAMED_TOPICS_LIMIT = 1000

REPEAT_S = 1.0
"""Shortest time between two repetitions of all states: a flood on the status topic must not become a flood of states."""

_OWN_STATES = ("cameras/+/status", "cameras/+/occupancy", "cameras/+/zones/+/occupancy")
"""Retained topics below the device's own that have a name of the configuration in them."""

_PLAIN_WILL = Grants(qos=0, retain=False)


TakeIncoming = Callable[[Incoming], None]
"""Receives a message, in the session's thread; must return immediately."""


@dataclass(slots=True)
class _Broker:
    """What is known about the broker at one host.

    Attributes:
        host: name or address.
        speaks_v5: whether it has used version 5.
        silences: attempts in a row without an answer.
        assumed: what it grants to a will.
        tolerance: what it does not accept.
    """

    host: str
    speaks_v5: bool = False
    silences: int = 0
    assumed: Grants = field(default_factory=Grants)
    tolerance: Tolerance = field(default_factory=Tolerance)


class MqttSession:
    """The thread that talks to one broker, the first of those in `mqtt.host` that accepts the connection.

    Args:
        mqtt: the configuration's section; password and certificates are read immediately, ConfigError names what cannot be used.
        client_id: without the characters that make it unique.
        presence: the status messages of the device in this session.
        lease: gives access to the messages that wait for the broker.
        inbox: takes commands; None subscribes to none.
        others: what receives the messages on further topics, without wildcards.

    Attributes:
        presence: as above.
        lease: as above.
        state: `connected`, or the reason in a few words, such as `refused: not authorized` or `unreachable: connection refused`.
        protocol: MQTT version of the connection, or None without one.
        turns: turns of the loop so far; the number stands still only while a name is resolved or a connection opened.
        packet_bytes: longest packet that the broker accepts, None where no limit is known.
    """

    def __init__(
        self,
        mqtt: schema.MqttConfig,
        client_id: str,
        presence: Presence,
        lease: OutboxLease,
        inbox: CommandInbox | None,
        others: Mapping[str, TakeIncoming] | None = None,
    ) -> None:
        self.presence = presence
        self.lease = lease
        self.state = "not started"
        self.protocol: Protocol | None = None
        self.turns = 0
        self.packet_bytes: int | None = None
        self._mqtt = mqtt
        self._settings = ReloadingSettings(mqtt)
        self._brokers = [_Broker(host) for host in mqtt.hosts]
        self._broker = self._brokers[0]
        self._accepted = False  # whether the broker accepted the last attempt
        self._client_id = f"{client_id}-{presence.session[:8]}"
        self._command_inbox = inbox
        self._others = dict(others or {})
        self._birth: Outgoing | None = None
        self._told_build: EngineBuild | None = None
        self._birth_topic = birth_topic(mqtt)
        self._discovery_topics = discovery_topics(mqtt, presence.topic.split("/")[-2])
        self._logged: set[str] = set()
        self._named_topics: set[tuple[str, str]] = set()  # with the cause for which the log has named them
        self._told_limits: list[str] = []
        self._is_repeat_due = False  # whether another session may have replaced retained states
        self._next_repeat_s = -math.inf
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

    @property
    def _where(self) -> str:
        return f"MQTT broker {self._broker.host}:{self._settings.current.port}"

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
            served = self._try_broker(wake)
            attempt = 0 if time.monotonic() - began_s > self._mqtt.reconnect_maximum_s else attempt + 1
            if not served and len(self._brokers) > 1:
                turn = (self._brokers.index(self._broker) + 1) % len(self._brokers)
                self._broker = self._brokers[turn]
                if turn:
                    continue  # the waits are between rounds
            # Full jitter: the devices that lost one broker do not all come back to it at the same time.
            self._stopping.wait(random.uniform(0, min(self._mqtt.reconnect_maximum_s, RECONNECT_INITIAL_S * 2 ** min(attempt, 20))))

    def _try_broker(self, wake: socket.socket) -> bool:
        """Connect to the broker whose turn it is, and return whether it accepted the connection."""
        broker = self._broker
        self._accepted = False
        preferred: Protocol = "3.1.1" if self._mqtt.protocol == "3.1.1" else "5"
        # A broker that has used version 5 before and does not answer is frozen, not old; after ten attempts it may be another broker.
        doubtful = not broker.speaks_v5 or broker.silences % 10 == 9
        if self._try(preferred, wake, doubtful=doubtful and self._mqtt.protocol == "auto"):
            self._try("3.1.1", wake, doubtful=False)
        return self._accepted

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
                    self._accepted = True
                    self._serve(connection, protocol)
            finally:
                self._settle(connection)
            broker = self._broker
            silent = connection.accepted is None and connection.alert is None
            broker.silences = broker.silences + 1 if silent else 0
            broker.speaks_v5 = (broker.speaks_v5 or (protocol == "5" and bool(connection.accepted))) and not connection.unsupported
            if connection.accepted is False and connection.ended in WILL_REFUSALS and broker.assumed != _PLAIN_WILL:
                _log.info("%s refuses a will with QoS 1 that is retained; trying a plain one", self._where)
                broker.assumed = _PLAIN_WILL
                return self._try(protocol, wake, doubtful=doubtful)
            if (doubtful and silent) or (connection.unsupported and self._mqtt.protocol == "auto"):
                return not self._stopping.is_set()
            if not self._stopping.is_set():
                failure = self._failure_of(connection)
                self.enter(failure.state, failure)
        except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is not valid
            failure = from_error(error, self._current())
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
        self._settings.refresh()
        connection = Connection(self._current(), protocol, self._client_id, will, self._broker.assumed)
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
        self._announce()
        self.lease.connected()
        self._subscribe(connection)
        self.enter("connected")
        self._tell_limits(connection.grants)
        tolerance = self._broker.tolerance
        tolerance.announce(connection.grants.packet_bytes)
        in_flight_limit = min(IN_FLIGHT_LIMIT, connection.grants.in_flight)
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
            elif self.presence.build != self._told_build:
                self._announce()
            if connection.stuck(now_s):
                connection.close(goodbye=False, reason="acknowledges nothing")
                break
            self.packet_bytes = tolerance.limit(now_s)
            careful = tolerance.careful(now_s)
            one_by_one = not careful or not connection.unconfirmed()
            acknowledged, room = len(connection.in_flight) < in_flight_limit and one_by_one, connection.room() and one_by_one
            self.lease.blocked(not room)
            latest = room and not stopping
            timeout_s = min(STEP_S, max(0.0, self._stop_at_s - now_s)) if not stopping else 0.02
            sending = self.lease.pending(acknowledged=acknowledged, latest=latest)
            if not (sending or room or connection.backlog) and self.lease.pending(acknowledged=False):
                timeout_s = min(timeout_s, POLL_S)
            if connection.step(timeout_s, sending=sending):
                message = self.lease.pop(time.monotonic(), acknowledged=acknowledged, latest=latest)
                if message is not None and self._is_accepted(connection, message):
                    connection.publish(message, confirm=careful)
                    self.lease.count_sent()
            self._receive(connection)
            if self._is_repeat_due and now_s >= self._next_repeat_s:
                self._is_repeat_due, self._next_repeat_s = False, now_s + REPEAT_S
                self.lease.repeat_states()
                self._ask_for_states(connection)

    def _announce(self) -> None:
        """Publish `online`, with the build of an engine that is under way."""
        self._told_build = self.presence.build
        self._birth = self.presence.online(self._told_build)
        self.lease.send_first(self._birth)

    def _is_accepted(self, connection: Connection, message: Outgoing) -> bool:
        """Return whether the broker accepts a message; otherwise it is dropped and counted, and the log names its topic once."""
        length, now_s = connection.packet_bytes(message), time.monotonic()
        cause = self._broker.tolerance.refuses(message, length, now_s)
        if cause is None:
            return True
        self.lease.discard(message, cause)
        if self._is_new(message.topic, cause):
            if cause == "too_large":
                _log.warning(
                    "%s accepts packets of up to %s bytes, and a message on %s takes %d: such messages are dropped (too_large); "
                    "expected a larger limit at the broker",
                    *(self._where, self._broker.tolerance.limit(now_s), message.topic, length),
                )
            else:
                _log.warning("%s ended two connections because of a message on %s, which is dropped", self._where, message.topic)
        return False

    def _is_new(self, topic: str, cause: str) -> bool:
        """Return whether the log has not named a topic for this cause, and note that it does now."""
        if (topic, cause) in self._named_topics or len(self._named_topics) >= NAMED_TOPICS_LIMIT:
            return False
        self._named_topics.add((topic, cause))
        return True

    def _subscribe(self, connection: Connection) -> None:
        connection.subscribe([self.presence.topic])
        if self._command_inbox is not None:
            topics = [self._command_inbox.topics] if connection.grants.wildcards else self._command_inbox.plain_topics
            connection.subscribe(topics, as_published=True)
        if self._birth_topic is not None:
            connection.subscribe([self._birth_topic])
        if self._others:
            connection.subscribe(list(self._others))
        self._ask_for_states(connection)

    def _ask_for_states(self, connection: Connection) -> None:
        """Let the broker send the states that it retains, so that those of cameras and zones that no longer exist can be cleared."""
        if connection.grants.wildcards and connection.grants.retain:
            connection.subscribe([*(self._base + states for states in _OWN_STATES), *self._discovery_topics])

    @property
    def _base(self) -> str:
        return self.presence.topic.removesuffix("status")

    def _tell_limits(self, grants: Grants) -> None:
        limits = grants.limits()
        if limits != self._told_limits:
            self._told_limits = limits
            if limits:
                log = _log.info if grants.qos and grants.retain else _log.warning
                log("%s grants %s", self._where, "; ".join(limits))

    def _current(self) -> BrokerSettings:
        return replace(self._settings.current, host=self._broker.host)

    def _settle(self, connection: Connection) -> None:
        """Account for the messages that a connection took with it when it ended."""
        connection.close(goodbye=False)
        self._receive(connection)
        if connection.accepted and not self._stopping.is_set():
            self._broker.tolerance.end(connection.ended or "", connection.unconfirmed(), time.monotonic())
        self.protocol = None
        self.lease.disconnected(connection.unwritten)

    def _failure_of(self, connection: Connection) -> ConnectFailure:
        ended = connection.ended or "closed"
        if connection.accepted:
            return ConnectFailure(f"lost: {ended}")
        if connection.accepted is False:
            return from_reason(ended, self._current())
        if connection.alert is not None and (failure := from_alert(connection.alert)) is not None:
            return failure
        if connection.hung_up:
            return from_hang_up(self._current(), self.state)
        if ended == NOT_MQTT and (other := from_other_protocol(self._current())) is not None:
            return other
        return ConnectFailure(f"unreachable: {ended}", "expected an MQTT broker there (keys mqtt.host, mqtt.port)")

    def _receive(self, connection: Connection) -> None:
        """Process what the broker sent: acknowledgements, refusals, status messages of other sessions, and commands."""
        for message, length in connection.confirmed:
            self._broker.tolerance.confirm(message, length)
        connection.confirmed.clear()
        for message in connection.acknowledged:
            self.lease.settle(message)
        connection.acknowledged.clear()
        for message, reason in connection.refused:
            self.lease.settle(message, lost="refused_by_broker")
            if self._is_new(message.topic, "refused_by_broker"):
                _log.warning("%s refuses messages on %s: %s; expected the right to write there", self._where, message.topic, reason)
        connection.refused.clear()
        for incoming in connection.received:
            if incoming.topic == self.presence.topic:
                own = self._birth is not None and incoming.payload == self._birth.payload
                if not (self._stopping.is_set() or own):
                    self._hear_of_another(incoming)
            elif (take := self._others.get(incoming.topic)) is not None:
                take(incoming)
            elif incoming.topic == self._birth_topic:
                self._hear_of_home_assistant(incoming)
            elif self._is_own_state(incoming.topic):
                self._clear_unknown(incoming)
            elif self._command_inbox is not None and not self._stopping.is_set():
                self._command_inbox.take(incoming)
        connection.received.clear()

    def _hear_of_another(self, incoming: Incoming) -> None:
        """Publish `online` again where a message of another session says otherwise, and all states where a session is gone.

        A session under this device's name replaces retained states and adds some of its own, and they stay when it leaves.
        """
        heard = self.presence.receive(incoming.payload, live=not incoming.stored)
        if heard != "nothing":
            assert self._birth is not None
            self.lease.send_first(self._birth)
        self._is_repeat_due = self._is_repeat_due or (heard == "gone" and not incoming.stored)

    def _hear_of_home_assistant(self, incoming: Incoming) -> None:
        """Announce everything again when Home Assistant has started: it may have forgotten what it knew."""
        if incoming.payload == BIRTH and not incoming.stored:
            self._is_repeat_due = True

    def _is_own_state(self, topic: str) -> bool:
        """Return whether a topic is one of those that this device alone retains."""
        if topic.startswith(self._base):
            return matches_any(_OWN_STATES, topic.removeprefix(self._base))
        return is_discovery(topic) and matches_any(self._discovery_topics, topic)

    def _clear_unknown(self, incoming: Incoming) -> None:
        """Clear the retained state of a camera or zone that does not exist here, such as one that was renamed."""
        if incoming.stored and incoming.payload and not self._stopping.is_set():
            whole = not incoming.topic.startswith(self._base)
            address = incoming.topic if whole else incoming.topic.removeprefix(self._base)
            if self.lease.clear_unknown(address, whole=whole):
                _log.info("the broker retains %s, which this device does not have: cleared", printable(address))
