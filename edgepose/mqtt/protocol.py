"""What MQTT promises: which topics are valid, how long a packet is, and what a broker grants in its CONNACK.

Sources: MQTT 5.0 (OASIS, 2019), sections 1.5.4 (text), 3.2.2.3 (properties of CONNACK) and 4.7 (topics). A broker may close the
connection for each rule that is broken, so every message is checked here before it is queued or sent: a poison message would otherwise end
one connection after the other.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from edgepose.mqtt.outbox import Cause, Outgoing

if TYPE_CHECKING:  # the rules of topics are needed without a broker, too
    from paho.mqtt.properties import Properties

PREFIX_LIMIT_BYTES = 1024
"""Longest prefix of topics: the rest of a topic has room, and CONNECT, whose will names a topic, fits every broker."""

PREFIX_LIMIT_LEVELS = 100
TOPIC_LIMIT_BYTES = 65_535
TOPIC_LIMIT_LEVELS = 200
"""Most levels of a topic: mosquitto closes the connection for a message with more, and other brokers allow fewer."""

_NOT_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]|["
    + "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))
    + "]"
)


def topic_fault(topic: str) -> str | None:
    """Return why a message cannot be published on a topic, in a few words; None where it can."""
    if not topic:
        return "it is empty"
    if found := set(topic) & {"+", "#"}:
        return f"it has the wildcard {min(found)!r}"
    if topic[0] == "$":
        return "it begins with '$', which is the broker's own"
    return _text_fault(topic, TOPIC_LIMIT_BYTES, TOPIC_LIMIT_LEVELS)


def filter_fault(pattern: str) -> str | None:
    """Return why a text is no topic filter for messages of clients, in a few words; None where it is one."""
    levels = pattern.split("/")
    if any("#" in level and (level != "#" or number < len(levels) - 1) for number, level in enumerate(levels)):
        return "'#' is not its whole last level"
    if any("+" in level and level != "+" for level in levels):
        return "'+' is not a whole level"
    return topic_fault(re.sub(r"[+#]", "_", pattern))


def prefix_fault(prefix: str) -> str | None:
    """Return why topics cannot begin with a prefix, in a few words; None where they can."""
    prefix = prefix.strip("/")
    return topic_fault(prefix) or _text_fault(prefix, PREFIX_LIMIT_BYTES, PREFIX_LIMIT_LEVELS)


def matches_any(patterns: Iterable[str], topic: str) -> bool:
    """Return whether one of the topic filters matches a topic (section 4.7)."""
    from paho.mqtt.client import topic_matches_sub

    return any(topic_matches_sub(pattern, topic) for pattern in patterns)


def publish_bytes(topic: str, payload_bytes: int, qos: int, properties: "Properties | None") -> int:
    """Return the length of a PUBLISH packet as it goes over the network (section 3.3)."""
    packed = len(properties.pack()) if properties is not None else 0  # type: ignore[no-untyped-call]
    remaining = 2 + len(topic.encode()) + (2 if qos else 0) + packed + payload_bytes
    return 1 + _variable_length(remaining) + remaining


class Grants(msgspec.Struct, frozen=True):
    """What a broker grants to one connection; the defaults are those of MQTT 5 where the broker says nothing, and of 3.1.1.

    Its Server Keep Alive is applied by paho-mqtt. Its Topic Alias Maximum needs nothing: no message has an alias.

    Attributes:
        packet_bytes: longest packet that it accepts (Maximum Packet Size); None where it announces no limit.
        in_flight: messages with QoS 1 that may wait for its answer (Receive Maximum).
        qos: highest QoS of a message (Maximum QoS).
        retain: whether it keeps retained messages (Retain Available).
        wildcards: whether subscriptions may have wildcards (Wildcard Subscription Available).
    """

    packet_bytes: int | None = None
    in_flight: int = 65_535
    qos: int = 2
    retain: bool = True
    wildcards: bool = True

    @classmethod
    def of(cls, properties: "Properties | None") -> "Grants":
        """Return what the properties of a CONNACK say."""
        none = cls()
        return cls(
            packet_bytes=getattr(properties, "MaximumPacketSize", None),
            in_flight=getattr(properties, "ReceiveMaximum", none.in_flight) or 1,
            qos=getattr(properties, "MaximumQoS", none.qos),
            retain=bool(getattr(properties, "RetainAvailable", none.retain)),
            wildcards=bool(getattr(properties, "WildcardSubscriptionAvailable", none.wildcards)),
        )

    def limits(self) -> list[str]:
        """Return what a subscriber should know of these grants, each in a few words."""
        return [
            *([] if self.qos else ["QoS 0 only, so that events can be lost on their way to the broker"]),
            *([] if self.retain else ["no retained messages, so that late subscribers do not see states"]),
            *([] if self.packet_bytes is None else [f"messages of up to {self.packet_bytes} bytes"]),
        ]


CAREFUL_S = 30.0
"""Longest time in which messages are sent one by one, to find the one that the broker does not accept."""

LEARNED_S = 60.0
"""Validity of a limit that a broker did not announce; it doubles each time, up to an hour. Connections that end twice for another reason
can look like a limit, and another broker may take the place of this one."""

_LEARNED_LONGEST_S = 3600.0

_POISONED_LIMIT = 1000
_ENDS_BY_A_MESSAGE = frozenset(
    (
        *("connection closed", "packet too large", "unspecified error", "malformed packet", "protocol error"),
        *("implementation specific error", "topic name invalid", "payload format invalid", "quota exceeded"),
    )
)
"""Ends of a connection that a message may have caused, as `Connection.ended` words them."""


class Tolerance:
    """What one broker has shown that it does not accept, where it did not announce a limit: MQTT 3.1.1 has no announcement.

    A broker that does not accept a message closes the connection. The message would be sent again on the next connection, and end that
    one too. After a connection ended with messages that the broker had not confirmed, the next connection sends one message at a time. If
    it ends as well, the single message that was on its way has ended two connections, and is dropped: as too large if it is longer than
    everything that this broker has confirmed, and then longer ones are dropped too; otherwise as refused.

    Pure arithmetic; times are readings of one clock.
    """

    def __init__(self) -> None:
        self._announced: int | None = None
        self._learned: int | None = None
        self._learned_until_s = -math.inf
        self._learned_for_s = LEARNED_S
        self._confirmed = 0
        self._suspected = 0  # length of the longest packet that may have ended the last connection
        self._careful_until_s = -math.inf
        self._suspects: set[tuple[str, bytes]] = set()  # messages with QoS 1 that the last end left unconfirmed
        self._poisoned: dict[tuple[str, bytes], None] = {}

    def announce(self, packet_bytes: int | None) -> None:
        """Note the limit that the broker announces for this connection, or that it announces none."""
        self._announced = packet_bytes

    def limit(self, now_s: float) -> int | None:
        """Return the longest packet that the broker accepts, None where no limit is known."""
        if now_s > self._learned_until_s:
            self._learned = None
        known = [limit for limit in (self._announced, self._learned) if limit is not None]
        return min(known, default=None)

    def refuses(self, message: Outgoing, packet_bytes: int, now_s: float) -> Cause | None:
        """Return why a message must not be sent, None where it may be."""
        limit = self.limit(now_s)
        if limit is not None and packet_bytes > limit:
            return "too_large"
        return "refused_by_broker" if (message.topic, message.payload) in self._poisoned else None

    def careful(self, now_s: float) -> bool:
        """Return whether messages must be sent one by one, each when the broker has confirmed the one before."""
        return now_s < self._careful_until_s

    def confirm(self, message: Outgoing, packet_bytes: int) -> None:
        """Note that the broker has accepted a message."""
        self._confirmed = max(self._confirmed, packet_bytes)
        self._suspects.discard(_identity(message))
        if not self._suspects and self._confirmed >= self._suspected:
            self._suspected, self._careful_until_s = 0, -math.inf

    def end(self, reason: str, unconfirmed: Sequence[tuple[Outgoing, int]], now_s: float) -> None:
        """Note that a connection has ended.

        Args:
            reason: in the words of `Connection.ended`.
            unconfirmed: messages that were sent and not confirmed, with the lengths of their packets.
            now_s: clock reading.
        """
        if reason not in _ENDS_BY_A_MESSAGE or not unconfirmed:
            return
        message, length = max(unconfirmed, key=lambda sent: sent[1])
        is_long = length > self._confirmed
        named = reason == "packet too large" or (self._learned is not None and is_long)
        same = message.qos == 0 or _identity(message) in self._suspects  # one with QoS 0 is never sent again
        found = self.careful(now_s) and len(unconfirmed) == 1 and same
        if named or (found and is_long):
            self._learned, self._learned_until_s = length - 1, now_s + self._learned_for_s
            self._learned_for_s = min(_LEARNED_LONGEST_S, 2 * self._learned_for_s)
            self._confirmed = min(self._confirmed, length - 1)
        elif found:
            while len(self._poisoned) >= _POISONED_LIMIT:
                del self._poisoned[next(iter(self._poisoned))]
            self._poisoned[message.topic, message.payload] = None
        if named or found:
            self._suspected, self._careful_until_s = 0, -math.inf
            self._suspects = set()
        else:
            self._suspected, self._careful_until_s = length, now_s + CAREFUL_S
            self._suspects = {_identity(message) for message, _ in unconfirmed if message.qos}


def _identity(message: Outgoing) -> tuple[str, bytes]:
    """Return what a message has in common with itself on another connection: a state may have changed."""
    return message.topic, b"" if message.retained else message.payload


def _text_fault(text: str, limit_bytes: int, limit_levels: int) -> str | None:
    if found := _NOT_TEXT.search(text):
        return f"it has the character U+{ord(found[0]):04X}, which MQTT forbids or discourages"
    if (length := len(text.encode())) > limit_bytes:
        return f"it is {length} bytes long, more than {limit_bytes}"
    if (levels := text.count("/") + 1) > limit_levels:
        return f"it has {levels} levels, more than {limit_levels}"
    return None


def _variable_length(value: int) -> int:
    """Return the length of a Variable Byte Integer (section 1.5.5)."""
    return 1 if value < 1 << 7 else 2 if value < 1 << 14 else 3 if value < 1 << 21 else 4
