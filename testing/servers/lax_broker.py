"""A broker that checks nothing: it grants what a test says, forwards any bytes, and ends connections at will."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE, _PING, _DISCONNECT = 1, 3, 4, 8, 12, 14


@dataclass(frozen=True, slots=True)
class Published:
    """One PUBLISH of a client."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    packet_bytes: int


@dataclass(slots=True)
class LaxBroker:
    """One client at a time.

    Attributes:
        port: that it listens on.
        properties: of its CONNACK (MQTT 5), packed.
        refuses: ends the connection without an answer where it returns true for a message.
        acknowledges: False leaves messages with QoS 1 unanswered.
        refuses_v5: whether it answers version 5 with "unsupported protocol version".
        published: messages of clients.
        subscribed: topic filters of clients.
        connections: number of accepted connections.
    """

    properties: bytes = b""
    refuses: Callable[[Published], bool] = lambda _: False
    acknowledges: bool = True
    refuses_v5: bool = False
    port: int = 0
    published: list[Published] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    connections: int = 0
    _client: socket.socket | None = None
    _v5: bool = False

    def send(self, topic: bytes, payload: bytes, *, properties: bytes = b"", retain: bool = False) -> None:
        """Send the connected client a message with QoS 0; nothing is checked."""
        assert self._client is not None
        body = struct.pack(">H", len(topic)) + topic + (_length(len(properties)) + properties if self._v5 else b"") + payload
        self._client.sendall(bytes([0x30 | retain]) + _length(len(body)) + body)

    def talk(self, client: socket.socket) -> None:
        """Serve one client until it leaves or is refused."""
        with suppress(OSError, EOFError):
            while True:
                first, body, length = _packet(client)
                kind = first >> 4
                if kind == _CONNECT:
                    self._v5 = body[6] == 5
                    if self._v5 and self.refuses_v5:
                        client.sendall(b"\x20\x03\x00\x84\x00")
                        return
                    tail = _length(len(self.properties)) + self.properties if self._v5 else b""
                    self.connections += 1
                    self._client = client
                    client.sendall(b"\x20" + _length(2 + len(tail)) + b"\0\0" + tail)
                elif kind == _SUBSCRIBE:
                    self._subscribe(client, body)
                elif kind == _PUBLISH:
                    message, number = self._message(first, body, length)
                    if self.refuses(message):
                        return
                    self.published.append(message)
                    if message.qos and self.acknowledges:
                        client.sendall(b"\x40\x02" + number)
                elif kind == _PING:
                    client.sendall(b"\xd0\0")
                elif kind == _DISCONNECT:
                    return

    def on(self, topic: str) -> list[Published]:
        """Return the messages on a topic."""
        return [message for message in self.published if message.topic == topic]

    def _subscribe(self, client: socket.socket, body: bytes) -> None:
        at = 2 + (1 + body[2] if self._v5 else 0)
        (length,) = struct.unpack_from(">H", body, at)
        self.subscribed.append(body[at + 2 : at + 2 + length].decode())
        tail = b"\0\1" if self._v5 else b"\1"
        client.sendall(b"\x90" + _length(2 + len(tail)) + body[:2] + tail)

    def _message(self, first: int, body: bytes, length: int) -> tuple[Published, bytes]:
        (topic_length,) = struct.unpack_from(">H", body)
        at, qos, number = 2 + topic_length, first >> 1 & 3, b""
        if qos:
            number, at = body[at : at + 2], at + 2
        if self._v5:
            at += 1 + body[at]  # shorter than 128 bytes here
        return Published(body[2 : 2 + topic_length].decode(), body[at:], qos, bool(first & 1), length), number


@contextmanager
def lax_broker(broker: LaxBroker) -> Iterator[LaxBroker]:
    """Run a broker; it may be changed while it runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        broker.talk(client)

        broker.port = server.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield broker
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def _packet(client: socket.socket) -> tuple[int, bytes, int]:
    first = _exactly(client, 1)[0]
    length, shift, size = 0, 0, 1
    while True:
        byte = _exactly(client, 1)[0]
        length |= (byte & 0x7F) << shift
        shift, size = shift + 7, size + 1
        if byte < 128:
            return first, _exactly(client, length), size + length


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, byte = divmod(value, 128)
        encoded.append(byte | 0x80 if value else byte)
        if not value:
            return bytes(encoded)
