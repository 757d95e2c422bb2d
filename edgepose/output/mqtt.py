"""The publisher: one thread between the daemon and an MQTT broker that may be away, slow, frozen or unwilling.

Nothing here blocks a caller, and nothing grows: messages wait in an `Outbox`, and one is handed to the network only when the one before
it has gone into the socket.
"""

import contextlib
import logging
import math
import random
import socket
import threading
import time
import uuid
from typing import Literal

import msgspec

from edgepose import config
from edgepose.errors import ConfigError
from edgepose.output.connection import Access, Connection, Protocol, describe
from edgepose.output.messages import InfoMessage, Message, StatusMessage, encode, timestamp
from edgepose.output.outbox import Outbox, Outgoing
from edgepose.output.schema import topic_address

logger = logging.getLogger(__name__)

IN_FLIGHT_LIMIT = 16
"""Most messages with QoS 1 that wait for the broker's answer: fewer than any broker's receive maximum that we know."""

PROBE_S = 1.5
"""How long a broker may think about MQTT 5 before 3.1.1 is tried: some old ones (amqtt) trip over CONNECT and never answer."""

RECONNECT_INITIAL_S = 0.25
STOP_S = 2.5
GOODBYE_S = 1.0
STEP_S = 1.0


class MqttPublisher:
    """Publishes under `<prefix>/<device>/` and says `online`, `stopped` or, through the broker, `offline` on `status`.

    Args:
        mqtt: the configuration's section; password and certificates are read at once, ConfigError names what cannot be used.
        device: name of this device in topics.
    """

    def __init__(self, mqtt: config.Mqtt, device: str) -> None:
        if not device or set(device) & set("/+#\0"):
            raise ConfigError(f"The device name {device!r} cannot be part of a topic; it must not be empty or hold '/', '+' or '#'.")
        self._mqtt = mqtt
        self._access = Access.read(mqtt)
        self._base = f"{mqtt.prefix.strip('/')}/{device}"
        self._where = f"MQTT broker {self._access.host}:{self._access.port}"
        self._session = uuid.uuid4().hex[:16]
        self._client_id = f"edgepose-{device}-{self._session[:8]}"
        self._outbox = Outbox()
        self._state = "not started"
        self._protocol: Protocol | None = None
        self._sent = 0
        self._birth: Outgoing | None = None
        self._rival: str | None = None
        self._refused_topics: set[str] = set()
        self._stopping = threading.Event()
        self._stop_reason = ""
        self._stop_at_s = math.inf
        self._wake_writer: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        """`connected`, or in few words why not, such as `refused: not authorized` or `unreachable: connection refused`."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether the broker has let us in and is not known to be gone; a frozen broker is found out after two keep-alives."""
        return self._state == "connected"

    @property
    def protocol(self) -> Protocol | None:
        """MQTT version of the connection, or None without one."""
        return self._protocol

    @property
    def session(self) -> str:
        """Identifier of this run in status messages."""
        return self._session

    @property
    def sent(self) -> int:
        """Messages handed to the network so far."""
        return self._sent

    @property
    def drops(self) -> dict[str, int]:
        """Messages lost so far by cause: `no_connection`, `superseded`, `backlog`, `expired`, `queue_full`, `connection_lost`, …"""
        return self._outbox.drops

    def topic(self, address: str) -> str:
        """Full name of a topic under this device."""
        return f"{self._base}/{address}"

    def start(self, info: InfoMessage | bytes | None = None) -> None:
        """Begin to connect, and go on trying; returns at once, whether or not there is a broker."""
        if info is not None:
            self.publish_retained(topic_address("info"), info)
        reader, self._wake_writer = socket.socketpair()
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, args=(reader,), name="mqtt-publisher", daemon=True)
        self._thread.start()

    def publish_poses(self, camera: str, payload: Message | bytes) -> None:
        """Publish the poses of one frame; of those that wait, only a camera's newest is kept, and none when it has become old."""
        self._put_latest(topic_address("poses", camera), payload, self._mqtt.pose_expiry_s)

    def publish_retained(self, address: str, payload: Message | bytes) -> None:
        """Set the state of a topic, with QoS 1; it is kept and said again after each connection."""
        self._outbox.put_retained(Outgoing(self.topic(address), self._encode(payload), qos=1, retained=True))
        self._wake()

    def publish(self, address: str, payload: Message | bytes, qos: Literal[0, 1] = 0) -> None:
        """Publish once: with QoS 0 the newest wins, with QoS 1 the message waits in a bounded queue until the broker has it."""
        if qos == 0:
            self._put_latest(address, payload, None)
        else:
            self._outbox.put_queued(Outgoing(self.topic(address), self._encode(payload), qos=1))
            self._wake()

    def stop(self, reason: str = "stopped on request") -> None:
        """Send what is queued, say `stopped`, and disconnect, all within three seconds, even where the broker is frozen."""
        if self._stopping.is_set():
            return
        self._stop_reason = reason
        self._stop_at_s = time.monotonic() + STOP_S
        self._outbox.close()
        self._stopping.set()
        self._wake()
        if self._thread is not None:
            self._thread.join(STOP_S + 0.2)  # a host name that takes longer to look up is left to end by itself
        self._outbox.abandon()
        self._enter("stopped")

    def _put_latest(self, address: str, payload: Message | bytes, expiry_s: float | None) -> None:
        self._outbox.put_latest(
            Outgoing(
                self.topic(address),
                self._encode(payload),
                expires_at_s=None if expiry_s is None else time.monotonic() + expiry_s,
                expiry_s=None if expiry_s is None else math.ceil(expiry_s),
            )
        )
        self._wake()

    def _encode(self, payload: Message | bytes) -> bytes:
        return payload if isinstance(payload, bytes) else encode(payload, self._mqtt.encoding)

    def _wake(self) -> None:
        if self._wake_writer is not None:
            with contextlib.suppress(OSError):  # full: the thread has been woken often enough; closed: it has ended
                self._wake_writer.send(b"\0")

    def _run(self, wake: socket.socket) -> None:
        with wake:
            self._keep_connected(wake)
        if self._wake_writer is not None:
            self._wake_writer.close()

    def _keep_connected(self, wake: socket.socket) -> None:
        protocol: Protocol = "3.1.1" if self._mqtt.protocol == "3.1.1" else "5"
        attempt = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            connection: Connection | None = None
            try:
                connection = self._connect(protocol, wake)
                try:
                    if connection.accepted:
                        self._serve(connection, protocol)
                finally:
                    self._settle(connection)
            except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
                self._enter(f"unreachable: {describe(error)}")
            except Exception:
                # A fault of ours or of paho's must not end the output for good, nor go unseen.
                logger.exception("%s: internal fault", self._where)
                self._enter("internal fault")
            if connection is not None and self._falls_back(connection):
                protocol = "3.1.1"
                continue
            if self._mqtt.protocol == "auto":
                # A broker that hangs up on CONNECT may be one that does not know version 5; one that let us in may be another next time.
                mute = connection is not None and connection.accepted is None
                protocol = "3.1.1" if mute and protocol == "5" else "5"
            attempt = 0 if time.monotonic() - began_s > self._mqtt.reconnect_maximum_s else attempt + 1
            wait_s = min(self._mqtt.reconnect_maximum_s, RECONNECT_INITIAL_S * 2 ** min(attempt, 20))
            self._stopping.wait(wait_s * random.uniform(0.5, 1))

    def _falls_back(self, connection: Connection) -> bool:
        return connection.unsupported and self._mqtt.protocol == "auto"

    def _connect(self, protocol: Protocol, wake: socket.socket) -> Connection:
        """A connection on which the broker has answered, or has not within its time; OSError where nobody listens."""
        if self._state == "not started":
            self._enter("connecting")
        will = self._status("offline", "the device vanished without a word")
        connection = Connection(self._access, protocol, self._client_id, will)
        connection.open(wake)
        patience_s = self._mqtt.connect_timeout_s
        if protocol == "5" and self._mqtt.protocol == "auto":
            patience_s = min(patience_s, PROBE_S)
        deadline_s = time.monotonic() + patience_s
        while connection.accepted is None and connection.ended is None and not self._stopping.is_set():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                connection.close(goodbye=False, reason="no answer")
                break
            connection.step(min(left_s, STEP_S), sending=False)
        return connection

    def _serve(self, connection: Connection, protocol: Protocol) -> None:
        """Publish until the connection or this publisher ends."""
        self._protocol = protocol
        self._birth = self._status("online", "connected")
        self._outbox.put_retained(self._birth)
        self._outbox.connected()
        connection.subscribe(self._birth.topic)
        self._enter("connected")
        said_stopped = False
        while connection.ended is None:
            now_s = time.monotonic()
            if self._stopping.is_set():
                idle = not (self._outbox.pending() or connection.in_flight)
                if not said_stopped and (idle or now_s > self._stop_at_s - GOODBYE_S):
                    self._outbox.put_retained(self._status("stopped", self._stop_reason))
                    said_stopped = True
                elif idle or now_s > self._stop_at_s:
                    connection.close(goodbye=not connection.backlog)
                    break
            self._outbox.blocked(connection.backlog)
            room = len(connection.in_flight) < IN_FLIGHT_LIMIT
            timeout_s = min(STEP_S, max(0.0, self._stop_at_s - now_s)) if not self._stopping.is_set() else 0.02
            if connection.step(timeout_s, sending=self._outbox.pending(acknowledged=room)):
                message = self._outbox.pop(time.monotonic(), acknowledged=room)
                if message is not None:
                    connection.publish(message)
                    self._sent += 1
            self._hear(connection)

    def _settle(self, connection: Connection) -> None:
        """Account for what a connection that is over took with it."""
        ended = connection.ended or "closed"
        connection.close(goodbye=False)
        self._protocol = None
        self._outbox.disconnected()
        self._outbox.lost("connection_lost", connection.unwritten)
        self._outbox.put_back([message for message in connection.in_flight.values() if not message.retained])
        if not self._falls_back(connection):
            verb = "lost" if connection.accepted else "refused" if connection.accepted is False else "unreachable"
            self._enter(f"{verb}: {ended}")

    def _hear(self, connection: Connection) -> None:
        """Look at what the broker said: messages it would not take, and strangers on our status topic."""
        for message, reason in connection.refused:
            self._outbox.lost("refused_by_broker")
            if message.topic not in self._refused_topics:
                self._refused_topics.add(message.topic)
                logger.warning("%s refuses messages on %s: %s", self._where, message.topic, reason)
        connection.refused.clear()
        for payload in connection.received:
            self._guard_status(payload)
        connection.received.clear()

    def _guard_status(self, payload: bytes) -> None:
        """An earlier connection's will, coming late, would leave a retained `offline` behind: say `online` again."""
        if self._stopping.is_set() or self._birth is None or payload == self._birth.payload:
            return
        decode = msgspec.json.decode if self._mqtt.encoding == "json" else msgspec.msgpack.decode
        try:
            status = decode(payload, type=StatusMessage)
        except msgspec.MsgspecError:
            status = None
        if status is None or status.state != "online":
            self._outbox.put_retained(self._birth)
        elif status.session not in (self._session, self._rival):
            self._rival = status.session
            logger.warning("%s: another daemon publishes under %s as well; give one of them another `device` name", self._where, self._base)

    def _status(self, state: Literal["online", "stopped", "offline"], reason: str) -> Outgoing:
        message = StatusMessage(state=state, reason=reason, session=self._session, at=timestamp(time.time_ns()))
        return Outgoing(self.topic(topic_address("status")), self._encode(message), qos=1, retained=True)

    def _enter(self, state: str) -> None:
        if state == self._state or (self._stopping.is_set() and state != "stopped"):
            return
        self._state = state
        if state in ("connected", "connecting", "stopped"):
            logger.info("%s: %s%s", self._where, state, f" with MQTT {self._protocol}" if state == "connected" else "")
        else:
            logger.warning("%s: %s; trying again", self._where, state)
