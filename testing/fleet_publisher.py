"""A publisher of a fleet's messages: thousands of poses a second from one connection, with QoS 0 or 1, each confirmed before it counts."""

import socket
import time
from collections.abc import Callable, Iterable

import numpy as np

from edgepose.frame import Frame
from edgepose.messages.compose import poses_message
from edgepose.messages.structs import PosesMessage
from edgepose.person import Person

_WINDOW = 2000


def some_poses(count: int, people: int = 2) -> list[PosesMessage]:
    """Return pose messages of a camera at 720p."""
    rng = np.random.default_rng(0)
    frame = Frame(image=np.zeros((720, 1280, 3), np.uint8), captured_at_ns=0, clock="rtcp", sequence=0, camera="front")
    return [poses_message(frame, [_person(rng, track) for track in range(people)], 0) for _ in range(count)]


def _person(rng: np.random.Generator, track: int) -> Person:
    corner, size = rng.uniform((0, 0), (1100, 400)), rng.uniform((60, 150), (180, 320))
    keypoints = np.concatenate([corner + rng.uniform(0, 1, (17, 2)) * size, rng.uniform(0, 1, (17, 1))], axis=1)
    return Person(np.concatenate([corner, corner + size]).astype(np.float32), 0.8, keypoints.astype(np.float32), track)


def string(text: str | bytes) -> bytes:
    """Return a text as MQTT has it (section 1.5.4)."""
    data = text.encode() if isinstance(text, str) else text
    return len(data).to_bytes(2, "big") + data


def packet(head: int, body: bytes) -> bytes:
    """Return an MQTT packet: type, length in groups of seven bits, body."""
    length, size = bytearray(), len(body)
    while True:
        size, group = divmod(size, 128)
        length.append(group | (128 if size else 0))
        if not size:
            return bytes([head]) + bytes(length) + body


def publish_packet(topic: str | bytes, payload: bytes, identifier: int = 0) -> bytes:
    """Return a PUBLISH of MQTT 3.1.1 with QoS 1, or 0 where there is no identifier."""
    return packet(0x32 if identifier else 0x30, string(topic) + (identifier.to_bytes(2, "big") if identifier else b"") + payload)


class FleetPublisher:
    """A connection that publishes with QoS 1 and knows what the broker has acknowledged; a context manager.

    Args:
        port: of the broker on this machine.
        name: client identifier.
    """

    def __init__(self, port: int, name: str = "fleet") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(packet(0x10, string("MQTT") + b"\x04\x02\x00\x00" + string(name)))
        assert self._socket.recv(4) == b"\x20\x02\x00\x00"
        self._next = 0
        self._sent: dict[int, int] = {}  # number of the message by packet identifier
        self._buffer = b""

    def __enter__(self) -> "FleetPublisher":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def publish(self, messages: Iterable[tuple[str | bytes, bytes]], acknowledged: Callable[[int], None] = lambda number: None) -> int:
        """Publish messages with QoS 1 and return their number when the broker has acknowledged all of them.

        Args:
            messages: topics and payloads.
            acknowledged: called with the number of each message that is acknowledged, from 0.
        """
        total = 0
        batch: list[bytes] = []
        for number, (topic, payload) in enumerate(messages):
            self._next = self._next % 65_535 + 1
            self._sent[self._next] = number
            batch.append(publish_packet(topic, payload, self._next))
            total += 1
            if len(batch) == 100:
                self._socket.sendall(b"".join(batch))
                batch.clear()
                while len(self._sent) > _WINDOW:
                    self._read(acknowledged)
        self._socket.sendall(b"".join(batch))
        while self._sent:
            self._read(acknowledged)
        return total

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def _read(self, acknowledged: Callable[[int], None]) -> None:
        data = self._socket.recv(65_536)
        assert data, "the broker closed the connection"
        self._buffer += data
        while len(self._buffer) >= 4:
            assert self._buffer[:2] == b"\x40\x02", self._buffer[:8]
            identifier = int.from_bytes(self._buffer[2:4], "big")
            self._buffer = self._buffer[4:]
            acknowledged(self._sent.pop(identifier))


def now_us() -> int:
    """Return the time, microseconds since the Unix epoch."""
    return time.time_ns() // 1000
