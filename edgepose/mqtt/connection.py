"""One MQTT connection from CONNECT to its end, driven by the thread that owns it; paho never queues anything here.

While a broker is frozen, paho-mqtt's own thread writes into an unbounded queue and reports success. Therefore its network loop is run from
outside: `step` waits for the socket, and returns whether the socket would accept another message.
"""

import logging
import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgepose.mqtt.flow_control import PingProbe, SocketTraffic
from edgepose.mqtt.outbox import Outgoing
from edgepose.mqtt.paho_client import RECEIVE_LIMIT_BYTES, GuardedClient
from edgepose.mqtt.protocol import Grants, publish_bytes
from edgepose.mqtt.settings import BrokerSettings

_log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]

SEND_BUFFER_BYTES = 128 * 1024
"""Maximum amount that the kernel buffers for one broker; `room` lets poses fill far less of it."""

UNSENT_BYTES = 16 * 1024
"""The socket counts as writable only below this amount of unsent data, where the system supports that."""

WILL_REFUSALS = frozenset(("qos not supported", "retain not supported"))
"""Refusals of a connection whose will asks for more than the broker grants; a plainer will is accepted."""

ACKNOWLEDGE_S = 30.0
"""Longest time without an acknowledgment from a broker that is alive; after that the connection is closed."""


NOT_MQTT = "that is not MQTT"
"""The end of a connection on which something else than MQTT has arrived."""

_UNCONFIRMED_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message from the broker.

    Attributes:
        topic: full name.
        payload: as received.
        stored: whether the broker had retained it, or retains it from now on where that was requested; otherwise it was published just now.
        response_topic: where a reply is wanted, or None.
        correlation: what identifies the reply, or None.
        user_properties: what the sender says about itself, pairs of name and value.
    """

    topic: str
    payload: bytes
    stored: bool
    response_topic: str | None
    correlation: bytes | None
    user_properties: tuple[tuple[str, str], ...] = ()


class Connection:
    """One connection; not thread-safe, and unusable once `ended` is set.

    Attributes:
        accepted: None until the broker has answered, then whether it accepted the connection.
        grants: what the broker grants to this connection, once it is accepted.
        ended: why the connection has ended, in a few words; None while it is open.
        unsupported: whether the broker refused this version of MQTT.
        hung_up: whether the broker closed the connection before it had answered.
        alert: last alert of the broker's TLS, or None.
        in_flight: messages with QoS 1 that the broker has not answered, oldest first, by packet identifier.
        acknowledged: messages with QoS 1 that the broker has; the owner takes them out.
        refused: messages with QoS 1 that the broker refused, with its reason; the owner takes them out.
        received: messages on the subscribed topics; the owner takes them out.
        confirmed: messages that the broker has read and accepted, with the lengths of their packets; the owner takes them out.
    """

    def __init__(self, settings: BrokerSettings, protocol: Protocol, client_id: str, will: Outgoing, assumed: Grants | None = None) -> None:
        """
        Args:
            settings: of the broker.
            protocol: version to use.
            client_id: complete.
            will: what the broker publishes when the connection is lost.
            assumed: what the broker is known to grant to a will.
        """
        self.accepted: bool | None = None
        self.grants = Grants()
        self.ended: str | None = None
        self.unsupported = False
        self.hung_up = False
        self.alert: ssl.SSLError | None = None
        self.in_flight: dict[int, Outgoing] = {}
        self.acknowledged: list[Outgoing] = []
        self.refused: list[tuple[Outgoing, str]] = []
        self.received: list[Incoming] = []
        self.confirmed: list[tuple[Outgoing, int]] = []
        self._unconfirmed: deque[tuple[int, Outgoing, int]] = deque(maxlen=_UNCONFIRMED_LIMIT)  # number, message, length of its packet
        self._published = 0  # number of the last message
        self._asked = 0  # number of the last message before the last ping
        self._being_published: Outgoing | None = None
        self._settings = settings
        self._handed_over = self._written = 0  # messages with QoS 0
        self._answered_s = time.monotonic()
        self._subscribing: dict[int, str] = {}  # subscriptions
        self._selector: selectors.BaseSelector | None = None
        self._traffic: SocketTraffic | None = None
        self._ping_probe = PingProbe()
        self._tls: ssl.SSLSocket | None = None
        self._v5 = protocol == "5"
        version = MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311
        self._client = GuardedClient(CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False)
        self._client.connect_timeout = settings.connect_timeout_s
        if settings.username is not None:
            self._client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            self._client.tls_set_context(settings.tls)
        assumed = assumed or Grants()
        will_qos, will_retained = min(will.qos, assumed.qos), will.retained and assumed.retain
        self._client.will_set(will.topic, will.payload, will_qos, will_retained, self._properties(PacketTypes.WILLMESSAGE, will))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_socket_open = self._on_socket_open
        self._client.on_pong = self._on_pong

    @property
    def backlog(self) -> bool:
        """Whether the last message is not completely written to the socket."""
        return self._client.want_write()

    @property
    def unwritten(self) -> int:
        """Messages with QoS 0 that were not completely written to the socket."""
        return self._handed_over - self._written

    def room(self) -> bool:
        """Return whether a message that is useful only while it is new would be sent soon, and not wait behind others."""
        return not self.backlog and self._ping_probe.room(time.monotonic()) and (self._traffic is None or self._traffic.room())

    def stuck(self, now_s: float) -> bool:
        """Return whether messages wait for the broker's answer, and none has arrived for a long time."""
        return bool(self.in_flight) and now_s - self._answered_s > ACKNOWLEDGE_S

    def open(self, wake: socket.socket) -> None:
        """Connect and send CONNECT, within the connect timeout for each address; OSError where nothing answers.

        Args:
            wake: a socket that ends a `step` early when it becomes readable.
        """
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = RECEIVE_LIMIT_BYTES
        self._client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s, properties=properties)
        sock = self._client.socket()
        if sock is None:  # gone while CONNECT was being written
            self._hang_up()
            return
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._traffic = SocketTraffic(sock) if isinstance(sock, socket.socket) else None
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._wake = wake

    def step(self, timeout_s: float, *, sending: bool) -> bool:
        """Wait at most `timeout_s` for the network, process its events, and return whether another message can be handed over.

        Args:
            timeout_s: longest wait.
            sending: whether a message waits, so that a writable socket ends the wait.
        """
        sock = self._client.socket()
        if sock is None or self._selector is None:
            self._hang_up()
            return False
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if sending or self.backlog else 0)
        if self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events)
        happened = {key.fileobj: mask for key, mask in self._selector.select(timeout_s)}
        if self._wake in happened:
            self._wake.recv(65536)
        mask = happened.get(sock, 0)
        if mask & selectors.EVENT_READ:
            self._read()
        if mask & selectors.EVENT_WRITE and self.backlog:
            self._client.loop_write()
        if self.ended is None:
            self._client.loop_misc()
        if self._client.socket() is None:
            self._hang_up()
        return self.ended is None and bool(mask & selectors.EVENT_WRITE) and not self.backlog

    def packet_bytes(self, message: Outgoing) -> int:
        """Return the length of a message's packet on this connection."""
        properties = self._properties(PacketTypes.PUBLISH, message)
        return publish_bytes(message.topic, len(message.payload), self._qos(message), properties)

    def unconfirmed(self) -> list[tuple[Outgoing, int]]:
        """Return the messages that the broker is not known to have accepted, oldest first, with the lengths of their packets."""
        return [(message, length) for _, message, length in self._unconfirmed]

    def publish(self, message: Outgoing, *, confirm: bool = False) -> None:
        """Write one message into the socket, or as much of it as fits: `backlog` then holds until the rest is gone.

        Where the broker grants QoS 0 only, a message with QoS 1 counts as acknowledged as soon as the socket has it.

        Args:
            message: not longer than the broker accepts.
            confirm: whether to ask immediately whether the broker has accepted it.
        """
        properties, qos = self._properties(PacketTypes.PUBLISH, message), self._qos(message)
        self._handed_over += message.qos == 0
        self._published += 1
        self._unconfirmed.append((self._published, message, publish_bytes(message.topic, len(message.payload), qos, properties)))
        self._being_published = message
        sent = self._client.publish(message.topic, message.payload, qos, message.retained and self.grants.retain, properties)
        pending, self._being_published = self._being_published is not None, None
        if message.qos > 0 and pending:
            if not self.in_flight:
                self._answered_s = time.monotonic()
            self.in_flight[sent.mid] = message
        now_s = time.monotonic()
        if qos == 0 and self.ended is None and (self._ping_probe.due(now_s) or (confirm and not self._ping_probe.waits)):
            self._client.ping()
            self._ping_probe.asked(now_s)
            self._asked = self._published

    def subscribe(self, topics: Sequence[str], *, as_published: bool = False) -> None:
        """Subscribe to topics with QoS 1; with MQTT 5, the broker does not return this client's own messages.

        Args:
            topics: to subscribe to.
            as_published: whether `stored` is also true for messages that arrive just now and that the broker will retain (MQTT 5).
        """
        for topic in topics:
            if self._v5:
                _, mid = self._client.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True, retainAsPublished=as_published))
            else:
                _, mid = self._client.subscribe(topic, qos=1)
            if mid is not None:
                self._subscribing[mid] = topic

    def close(self, *, goodbye: bool, reason: str = "closed") -> None:
        """Close immediately; the broker drops the will if it receives a DISCONNECT (`goodbye`)."""
        self._end(reason)
        if goodbye:
            self._client.disconnect()
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        if self._selector is not None:
            self._selector.close()

    def _read(self) -> None:
        try:
            self._client.loop_read()
            # Decrypted bytes that TLS holds do not make the socket readable again.
            while isinstance(current := self._client.socket(), ssl.SSLSocket) and current.pending():
                self._client.loop_read()
        except Exception:  # paho fails on malformed packets with struct, index and value errors, and its own
            _log.debug("malformed packet", exc_info=True)
            self.close(goodbye=False, reason=NOT_MQTT)

    def _qos(self, message: Outgoing) -> int:
        return min(message.qos, self.grants.qos)

    def _confirm(self, number: int) -> None:
        """Note that the broker, which reads in order, has accepted all messages up to one."""
        while self._unconfirmed and self._unconfirmed[0][0] <= number:
            _, message, length = self._unconfirmed.popleft()
            self.confirmed.append((message, length))

    def _properties(self, packet: int, message: Outgoing) -> Properties | None:
        if not self._v5:
            return None
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        properties.ContentType = message.content_type or self._settings.content_type
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        return properties

    def _on_socket_open(self, _client: Client, _data: object, sock: object) -> None:
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason

    def _hang_up(self) -> None:
        if self.ended is None:
            self.ended = "connection closed"
            self.hung_up = self.accepted is None

    def _on_pong(self) -> None:
        self._ping_probe.answered(time.monotonic())
        self._confirm(self._asked)

    def _on_connect(self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        self.accepted = not reason.is_failure
        self.grants = Grants.of(properties if self._v5 else None)
        if reason.is_failure:
            self.unsupported = self._v5 and reason == "Unsupported protocol version"
            self._end(str(reason).lower())

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self.alert = getattr(self._tls, "fault", None)
        if flags.is_disconnect_packet_from_server or (self.accepted and reason != "Unspecified error" and not self._client.overlong):
            self._end(str(reason).lower())
        else:  # paho's own reasons are less specific
            if reason == "Keep alive timeout":
                self._end("no answer")
            elif self._client.outdated:
                self.accepted = False
                self._end("unsupported protocol version")
            elif self._client.overlong:
                self._end(f"a message of more than {RECEIVE_LIMIT_BYTES // 1024} KiB arrived")
            self._hang_up()

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties) -> None:
        message = self.in_flight.pop(mid, None)  # paho calls this for QoS 0 too, as soon as the socket has it
        if message is None:
            published, self._being_published = self._being_published, None
            if published is None or published.qos == 0:
                self._written += 1
            else:  # sent with QoS 0, since the broker grants no more
                self.acknowledged.append(published)
            return
        self._answered_s = time.monotonic()
        if self.grants.qos > 0:
            number = next((number for number, sent, _ in self._unconfirmed if sent is message), 0)
            self._confirm(number)
        if reason.is_failure:
            self.refused.append((message, str(reason).lower()))
        else:
            self.acknowledged.append(message)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # a broker that does not check topics
        self.received.append(
            Incoming(
                topic,
                bytes(message.payload),
                message.retain,
                getattr(message.properties, "ResponseTopic", None),
                getattr(message.properties, "CorrelationData", None),
                tuple(getattr(message.properties, "UserProperty", ())),
            )
        )

    def _on_subscribe(self, _client: Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: Properties | None) -> None:
        topic = self._subscribing.pop(mid, "")
        for reason in reasons:
            if reason.is_failure:
                _log.warning("MQTT broker refuses the subscription to %s: %s; expected the right to read it", topic, str(reason).lower())
