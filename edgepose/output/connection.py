"""One MQTT connection from CONNECT to its end, driven by the thread that owns it; paho never queues anything here.

paho-mqtt's own thread writes into a queue without bound while a broker is frozen, and says success all the while. So its network loop
is run from outside: `step` waits for the socket, and says whether the socket would take another message.
"""

import logging
import selectors
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgepose import config
from edgepose.errors import ConfigError
from edgepose.output.outbox import Outgoing

logger = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]

SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel may hold for one broker: on a slow link everything in there is latency."""

UNSENT_BYTES = 16 * 1024
"""The socket counts as writable only below this much unsent data, where the system can tell."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the broker is and how to get in; made once, so that an unreadable file is found before anything runs."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: ssl.SSLContext | None
    keepalive_s: int
    connect_timeout_s: float
    content_type: str

    @staticmethod
    def read(mqtt: config.Mqtt) -> "Access":
        """Read password and certificates; ConfigError names the file that cannot be used."""
        return Access(
            host=mqtt.host,
            port=mqtt.port or (8883 if mqtt.tls.enabled else 1883),
            username=mqtt.username,
            password=_read_password(mqtt.password_file) if mqtt.password_file else None,
            tls=_tls_context(mqtt.tls) if mqtt.tls.enabled else None,
            keepalive_s=mqtt.keepalive_s,
            connect_timeout_s=mqtt.connect_timeout_s,
            content_type="application/json" if mqtt.encoding == "json" else "application/msgpack",
        )


class Connection:
    """One connection; not thread-safe, and of no use once `ended` is set.

    Attributes:
        accepted: None until the broker has answered, then whether it let us in.
        ended: why the connection is over, in few words, or None while it lives.
        unsupported: whether the broker refused this version of MQTT.
        in_flight: messages with QoS 1 that the broker has not answered for, oldest first, by packet identifier.
        refused: messages with QoS 1 that the broker would not have, with its reason; the owner takes them out.
        received: payloads on the subscribed topic; the owner takes them out.
    """

    def __init__(self, access: Access, protocol: Protocol, client_id: str, will: Outgoing) -> None:
        self.accepted: bool | None = None
        self.ended: str | None = None
        self.unsupported = False
        self.in_flight: dict[int, Outgoing] = {}
        self.refused: list[tuple[Outgoing, str]] = []
        self.received: list[bytes] = []
        self._access = access
        self._handed = self._written = 0  # messages with QoS 0
        self._watched: str | None = None
        self._selector: selectors.BaseSelector | None = None
        self._v5 = protocol == "5"
        version = MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False)
        self._client.connect_timeout = access.connect_timeout_s
        if access.username is not None:
            self._client.username_pw_set(access.username, access.password)
        if access.tls is not None:
            self._client.tls_set_context(access.tls)
        self._client.will_set(will.topic, will.payload, will.qos, will.retained, self._properties(PacketTypes.WILLMESSAGE, None))
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_socket_open = self._on_socket_open

    @property
    def backlog(self) -> bool:
        """Whether the last message has not wholly gone into the socket."""
        return self._client.want_write()

    @property
    def unwritten(self) -> int:
        """Messages with QoS 0 that did not wholly go into the socket."""
        return self._handed - self._written

    def open(self, wake: socket.socket) -> None:
        """Connect and send CONNECT, within the connect timeout for each address; OSError where nobody answers.

        Args:
            wake: a socket that ends a `step` early when it becomes readable.
        """
        self._client.connect(self._access.host, self._access.port, self._access.keepalive_s)
        sock = self._client.socket()
        if sock is None:
            raise ConnectionResetError("connection closed")
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(wake, selectors.EVENT_READ)
        self._wake = wake

    def step(self, timeout_s: float, *, sending: bool) -> bool:
        """Wait at most `timeout_s` for the network, do what it asks, and say whether another message can be handed over.

        Args:
            timeout_s: longest wait.
            sending: whether a message waits, so that a writable socket ends the wait.
        """
        sock = self._client.socket()
        if sock is None or self._selector is None:
            self._end("connection closed")
            return False
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if sending or self.backlog else 0)
        if self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events)
        happened = {key.fileobj: mask for key, mask in self._selector.select(timeout_s)}
        if self._wake in happened:
            self._wake.recv(65536)
        mask = happened.get(sock, 0)
        if mask & selectors.EVENT_READ:
            self._client.loop_read()
            # Decrypted bytes that TLS holds do not make the socket readable again.
            while isinstance(current := self._client.socket(), ssl.SSLSocket) and current.pending():
                self._client.loop_read()
        if mask & selectors.EVENT_WRITE and self.backlog:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            self._end("connection closed")
        return self.ended is None and bool(mask & selectors.EVENT_WRITE) and not self.backlog

    def publish(self, message: Outgoing) -> None:
        """Write one message into the socket, or as much of it as fits: `backlog` then holds until the rest is gone."""
        properties = self._properties(PacketTypes.PUBLISH, message.expiry_s)
        self._handed += message.qos == 0
        sent = self._client.publish(message.topic, message.payload, message.qos, message.retained, properties)
        if message.qos > 0:
            self.in_flight[sent.mid] = message

    def subscribe(self, topic: str) -> None:
        """Watch one topic with QoS 1; with MQTT 5 without hearing ourselves."""
        self._watched = topic
        if self._v5:
            self._client.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True))
        else:
            self._client.subscribe(topic, qos=1)

    def close(self, *, goodbye: bool, reason: str = "closed") -> None:
        """Close at once; with a goodbye the broker drops the will, if it gets to hear it."""
        self._end(reason)
        if goodbye:
            self._client.disconnect()
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        if self._selector is not None:
            self._selector.close()

    def _properties(self, packet: int, expiry_s: int | None) -> Properties | None:
        if not self._v5:
            return None
        properties = Properties(packet)  # type: ignore[no-untyped-call]
        properties.ContentType = self._access.content_type
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
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

    def _on_connect(self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None) -> None:
        self.accepted = not reason.is_failure
        if reason.is_failure:
            self.unsupported = self._v5 and reason == "Unsupported protocol version"
            self._end(str(reason).lower())

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if flags.is_disconnect_packet_from_server or (self.accepted and reason != "Unspecified error"):
            self._end(str(reason).lower())
        else:  # paho's words for its own findings say less
            self._end("no answer" if reason == "Keep alive timeout" else "connection closed")

    def _on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties) -> None:
        message = self.in_flight.pop(mid, None)  # paho calls this for QoS 0 too, as soon as the socket has it
        if message is None:
            self._written += 1
        elif reason.is_failure:
            self.refused.append((message, str(reason).lower()))

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.received.append(bytes(message.payload))

    def _on_subscribe(self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None) -> None:
        for reason in reasons:
            if reason.is_failure:
                logger.info(
                    "MQTT broker refuses our subscription to %s: %s; an old session's will cannot be corrected", self._watched, reason
                )


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho leaves it open until the garbage collector comes."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _read_password(path: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"mqtt.password_file: cannot read {path}: {reason}; a readable file with the password in its first line is needed."
        ) from error
    if not lines or not lines[0]:
        raise ConfigError(f"mqtt.password_file: the first line of {path} is empty; it must hold the password.")
    return lines[0]


def _tls_context(tls: config.Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise ConfigError(
            f"mqtt.tls.ca_file: cannot use {tls.ca_file}: {describe(error)}; a file of PEM certificates is needed."
        ) from error
    context.sslsocket_class = _TlsSocket
    if tls.certificate_file is not None:
        try:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
        except OSError as error:
            raise ConfigError(
                f"mqtt.tls.certificate_file: cannot use {tls.certificate_file} with key {tls.key_file or 'in the same file'}: "
                f"{describe(error)}; a PEM certificate and its unencrypted key are needed."
            ) from error
    return context


def describe(error: OSError | UnicodeError) -> str:
    """What the system says of a failure, in few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "timed out"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]
