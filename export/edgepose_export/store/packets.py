"""The packets of MQTT that a store sends and receives, in both versions.

Source: MQTT 5.0 and 3.1.1 (OASIS, 2019 and 2014), chapter 3. A library would collect a message of any length in memory, and would
acknowledge it before it is on the disk; this reader throws away what is too long, and leaves acknowledgment to its caller.
"""

import struct
from typing import Literal, NamedTuple

from edgepose.errors import OutputError

Version = Literal[4, 5]
"""Protocol level: 4 is MQTT 3.1.1."""

CONNACK, PUBLISH, SUBACK, DISCONNECT = 2, 3, 9, 14

_U16 = struct.Struct(">H")
_SESSION_EXPIRY = 0x11
_PUBACK = b"\x40\x02"


class Publication(NamedTuple):
    """A message that a broker delivered.

    Attributes:
        topic: as bytes, unchecked.
        payload: None where it was too long and was thrown away.
        identifier: to acknowledge it with; 0 with QoS 0.
    """

    topic: bytes
    payload: bytes | None
    identifier: int


class Control(NamedTuple):
    """Another packet: its type and its body."""

    kind: int
    body: bytes


class PacketReader:
    """A reader of the packets in a stream of bytes.

    Args:
        version: of the protocol.
        limit_bytes: longest PUBLISH that is read.
    """

    def __init__(self, version: Version, limit_bytes: int) -> None:
        self._v5 = version == 5
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()
        self._skip = 0  # bytes of a packet that are thrown away

    def feed(self, data: bytes) -> list[Publication | Control]:
        """Return the packets that are complete with these bytes.

        Raises:
            OutputError: the bytes are not MQTT.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer = self._buffer
        buffer += data
        found: list[Publication | Control] = []
        at, end = 0, len(buffer)
        while end - at >= 2:
            length, body = _length(buffer, at + 1, end)
            if length is None:
                break
            kind = buffer[at] >> 4
            if kind == PUBLISH and length > self._limit_bytes:
                head = self._oversized(buffer, at, body, end)
                if head is None:
                    break
                found.append(head)
                taken = min(length, end - body)
                self._skip = length - taken
                at = body + taken
                continue
            if length > self._limit_bytes:
                raise OutputError(f"a packet of type {kind} has {length} bytes; expected MQTT")
            after = body + length
            if after > end:
                break
            found.append(self._publication(buffer, at, body, after) if kind == PUBLISH else Control(kind, bytes(buffer[body:after])))
            at = after
        del buffer[:at]
        return found

    def _publication(self, buffer: bytearray, at: int, body: int, after: int) -> Publication:
        try:
            topic_end = body + 2 + _U16.unpack_from(buffer, body)[0]
            topic = bytes(buffer[body + 2 : topic_end])
            identifier = 0
            if buffer[at] & 0x06:
                identifier = _U16.unpack_from(buffer, topic_end)[0]
                topic_end += 2
            if self._v5:
                properties, topic_end = _length(buffer, topic_end, after)
                topic_end += properties or 0
        except struct.error as error:
            raise OutputError("a PUBLISH packet is shorter than its topic; expected MQTT") from error
        if topic_end > after:
            raise OutputError("a PUBLISH packet is shorter than its topic and properties; expected MQTT")
        return Publication(topic, bytes(buffer[topic_end:after]), identifier)

    def _oversized(self, buffer: bytearray, at: int, body: int, end: int) -> Publication | None:
        """Return a publication without its payload; None until its topic and identifier have arrived."""
        if end - body < 2:
            return None
        topic_end = body + 2 + _U16.unpack_from(buffer, body)[0]
        has_identifier = bool(buffer[at] & 0x06)
        if end < topic_end + 2 * has_identifier:
            return None
        identifier = _U16.unpack_from(buffer, topic_end)[0] if has_identifier else 0
        return Publication(bytes(buffer[body + 2 : topic_end]), None, identifier)


def connect_packet(
    version: Version, client_id: str, *, keepalive_s: int, session_expiry_s: int, username: str | None, password: str | None
) -> bytes:
    """Return a CONNECT that resumes or begins a session which outlives the connection."""
    flags = (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _text("MQTT") + bytes([version, flags]) + _U16.pack(keepalive_s)
    if version == 5:
        properties = bytes([_SESSION_EXPIRY]) + session_expiry_s.to_bytes(4, "big")
        body += _variable(len(properties)) + properties
    body += _text(client_id)
    for text in (username, password):
        if text is not None:
            body += _text(text)
    return _packet(0x10, body)


def subscribe_packet(version: Version, identifier: int, topics: list[str]) -> bytes:
    """Return a SUBSCRIBE with QoS 1 that asks for no retained messages (MQTT 5)."""
    options = b"\x21" if version == 5 else b"\x01"
    body = _U16.pack(identifier) + (b"\x00" if version == 5 else b"") + b"".join(_text(topic) + options for topic in topics)
    return _packet(0x82, body)


def acknowledgments(identifiers: list[int]) -> bytes:
    """Return a PUBACK for each message."""
    return b"".join([_PUBACK + _U16.pack(identifier) for identifier in identifiers])


PINGREQ = b"\xc0\x00"
GOODBYE = b"\xe0\x00"


def _packet(head: int, body: bytes) -> bytes:
    return bytes([head]) + _variable(len(body)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return _U16.pack(len(data)) + data


def _variable(value: int) -> bytes:
    """Return a Variable Byte Integer (section 1.5.5)."""
    out = bytearray()
    while True:
        value, group = value >> 7, value & 127
        out.append(group | (128 if value else 0))
        if not value:
            return bytes(out)


def _length(buffer: bytearray, at: int, end: int) -> tuple[int | None, int]:
    """Return a Variable Byte Integer and the place after it; None where it is not complete.

    Raises:
        OutputError: it has more than four bytes.
    """
    value = shift = 0
    while at < end:
        group = buffer[at]
        value |= (group & 127) << shift
        at += 1
        if group < 128:
            return value, at
        shift += 7
        if shift > 21:
            raise OutputError("a length has more than four bytes; expected MQTT")
    return None, at
