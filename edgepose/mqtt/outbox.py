"""The messages that wait for the broker, in bounded memory: where only the newest matters the newest wins, and every drop has a cause."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Literal

import msgspec

from edgepose.messages.structs import Message

Cause = Literal[
    "thinned",
    "no_connection",
    "superseded",
    "backlog",
    "expired",
    "queue_full",
    "connection_lost",
    "refused_by_broker",
    "too_large",
    "damaged",
    "stopped",
]


class Outgoing(msgspec.Struct, frozen=True, eq=False):
    """One encoded message for the broker.

    Attributes:
        topic: full name.
        payload: encoded message.
        qos: 0 or 1.
        retained: whether the broker keeps it for late subscribers.
        expires_at_s: clock reading after which the message is of no use, or None.
        expiry_s: how long the broker may keep it, whole seconds, or None.
        correlation: identifies the request that a reply answers, or None.
        content_type: of the payload, where it is not that of the other messages.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retained: bool = False
    expires_at_s: float | None = None
    expiry_s: int | None = None
    correlation: bytes | None = None
    content_type: str | None = None


class RetainedState(msgspec.Struct, frozen=True, eq=False):
    """The state of a topic, encoded only when a session sends it: each session has its own prefix and encoding.

    Attributes:
        address: topic below `<prefix>/<device>/`, or a whole topic.
        payload: the message; empty bytes clear the topic.
        whole: whether the address is a whole topic.
    """

    address: str
    payload: Message | bytes
    whole: bool = False


class OutboxStats(msgspec.Struct, frozen=True):
    """Counts since the start of the daemon.

    Attributes:
        sent: messages handed to the network.
        reconnects: times that a session connected again.
        drops: messages lost, by cause.
        waiting: queued messages that are not settled: those in the queue, and those that were taken out to be sent.
    """

    sent: int
    reconnects: int
    drops: dict[str, int]
    waiting: int


class Outbox:
    """Three kinds of messages, each with its own bound; safe for any number of threads.

    - *latest* (QoS 0): one slot per topic; a newer message replaces an unsent one. Dropped while there is no connection.
    - *retained* (QoS 1): one slot per address; a state is never lost and is sent again after each connection.
    - *queued* (QoS 1): a first-in first-out queue that survives the loss of a connection; when it is full, the oldest message is dropped.

    Sessions take messages out through an `OutboxLease`.

    Args:
        queue_limit: most messages in the queue.
        queue_bytes: most bytes of their payloads; the newest message is accepted at any size.
        topic_limit: most topics of each slotted kind; a guard against names made up at run time.
        forget: receives each queued message that is settled, delivered or lost; must not call back.
    """

    def __init__(
        self,
        *,
        queue_limit: int = 1000,
        queue_bytes: int = 32 * 2**20,
        topic_limit: int = 4000,
        forget: Callable[[Outgoing], None] = lambda _: None,
    ) -> None:
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._forget = forget
        self._topic_limit = topic_limit
        self._lock = threading.Lock()
        self._connection: Literal["down", "open", "blocked", "closed"] = "down"
        self._latest: OrderedDict[str, Outgoing] = OrderedDict()
        self._retained: dict[str, RetainedState] = {}
        self._unsent: OrderedDict[str, None] = OrderedDict()  # addresses in `_retained`
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._waiting = 0
        self._kept = 0  # left for the next run
        self._sent = 0
        self._reconnects = 0
        self._drops: Counter[Cause] = Counter()

    def stats(self) -> OutboxStats:
        """Return the counts of this moment."""
        with self._lock:
            drops = {str(cause): count for cause, count in self._drops.items()}
            return OutboxStats(self._sent, self._reconnects, drops, self._waiting + self._kept)

    def limit(self, queue_limit: int) -> None:
        """Change the most messages in the queue; the oldest surplus messages are dropped."""
        with self._lock:
            self._queue_limit = queue_limit
            self._shrink()

    def put_latest(self, message: Outgoing) -> None:
        """Add a message of which only the newest of its topic matters."""
        with self._lock:
            if self._connection == "closed":
                self._drops["stopped"] += 1
            elif self._connection == "down":
                self._drops["no_connection"] += 1
            elif message.topic in self._latest:
                self._drops["backlog" if self._connection == "blocked" else "superseded"] += 1
                self._latest[message.topic] = message  # keeps its turn: a busy camera neither starves nor is starved
            elif len(self._latest) >= self._topic_limit:
                self._drops["queue_full"] += 1
            else:
                self._latest[message.topic] = message

    def put_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        """Set the state of an address; replacing an older state is no loss."""
        with self._lock:
            if address not in self._retained and len(self._retained) >= self._topic_limit:
                self._drops["queue_full"] += 1
                return
            self._retained[address] = RetainedState(address, payload, whole)
            self._unsent[address] = None

    def put_queued(self, message: Outgoing) -> None:
        """Add a message that must arrive; when the queue is full, the oldest one is lost."""
        with self._lock:
            if self._connection == "closed":
                self._drops["stopped"] += 1
                self._forget(message)
                return
            self._queue.append(message)
            self._waiting += 1
            self._queued_bytes += len(message.payload)
            self._shrink()

    def restore(self, messages: list[Outgoing]) -> None:
        """Add messages that an earlier run left behind, oldest first; they are sent before all others."""
        with self._lock:
            self._kept = 0
            self._waiting += len(messages)
        self.put_back(messages)

    def queued(self) -> list[Outgoing]:
        """Return the messages in the queue, oldest first."""
        with self._lock:
            return list(self._queue)

    def remove(self, unwanted: Callable[[bytes], bool]) -> int:
        """Remove the queued messages whose payload is not wanted any more, without counting them as lost; return how many."""
        with self._lock:
            gone = [message for message in self._queue if unwanted(message.payload)]
            self._queue = deque(message for message in self._queue if not unwanted(message.payload))
            self._queued_bytes -= sum(len(message.payload) for message in gone)
            self._waiting -= len(gone)
            for message in gone:
                self._forget(message)
            return len(gone)

    def settle(self, message: Outgoing, *, lost: Cause | None = None) -> None:
        """Finish a message that was taken out: it has arrived, or was lost for a cause."""
        with self._lock:
            if lost is not None:
                self._drops[lost] += 1
            if not message.retained:
                self._waiting -= 1
                self._forget(message)

    def put_back(self, messages: list[Outgoing]) -> None:
        """Return queued messages that were sent and never acknowledged, oldest first; they are sent before all others."""
        with self._lock:
            self._queue.extendleft(reversed(messages))
            self._queued_bytes += sum(len(message.payload) for message in messages)
            self._shrink()

    def pop(self, now_s: float, *, acknowledged: bool = True, latest: bool = True) -> Outgoing | RetainedState | None:
        """Take out the next message to send: states first, then queued ones, then the latest, topic by topic.

        Args:
            now_s: clock reading, of the clock of `Outgoing.expires_at_s`.
            acknowledged: False holds messages with QoS 1 back.
            latest: False holds those with QoS 0 back.
        """
        with self._lock:
            if acknowledged and self._unsent:
                return self._retained[self._unsent.popitem(last=False)[0]]
            while acknowledged and self._queue:
                message = self._take_oldest()
                if message.expires_at_s is None or now_s < message.expires_at_s:
                    return message
                self._lose(message, "expired")
            while latest and self._latest:
                _, message = self._latest.popitem(last=False)
                if message.expires_at_s is None or now_s < message.expires_at_s:
                    return message
                self._drops["expired"] += 1
            return None

    def pending(self, *, acknowledged: bool = True, latest: bool = True) -> bool:
        """Return whether a message waits that `pop` would return with the same arguments."""
        with self._lock:
            return bool((latest and self._latest) or (acknowledged and (self._unsent or self._queue)))

    def count_sent(self) -> None:
        """Count a message that was handed to the network."""
        with self._lock:
            self._sent += 1

    def connected(self, *, again: bool = False) -> None:
        """Note that a connection is open: every retained state must be sent again.

        Args:
            again: whether the session was connected before.
        """
        with self._lock:
            self._reconnects += again
            if self._connection != "closed":
                self._connection = "open"
            self._unsent = OrderedDict.fromkeys(self._retained)

    def repeat_states(self) -> None:
        """Send every retained state again: another program has replaced some of them at the broker."""
        with self._lock:
            self._unsent = OrderedDict.fromkeys(self._retained)

    def clear_unknown(self, address: str, *, whole: bool = False) -> bool:
        """Clear a retained topic that has no state here, and return whether there was none."""
        with self._lock:
            if address in self._retained or len(self._retained) >= self._topic_limit:
                return False
            self._retained[address] = RetainedState(address, b"", whole)
            self._unsent[address] = None
            return True

    def blocked(self, blocked: bool) -> None:
        """Note whether the connection takes no more messages for now."""
        with self._lock:
            if self._connection in ("open", "blocked"):
                self._connection = "blocked" if blocked else "open"

    def disconnected(self) -> None:
        """Note that the connection is gone: the latest messages would be outdated when it returns, and are dropped."""
        with self._lock:
            if self._connection != "closed":
                self._connection = "down"
            self._drop_latest("no_connection")

    def drop_cleared(self) -> None:
        """Remove cleared states that were sent: a new session need not clear them again."""
        with self._lock:
            cleared = [address for address, state in self._retained.items() if state.payload == b"" and address not in self._unsent]
            for address in cleared:
                del self._retained[address]

    def close(self) -> None:
        """Accept nothing but states from now on; the latest messages are dropped, the queue is left for sending."""
        with self._lock:
            self._connection = "closed"
            self._drop_latest("stopped")

    def abandon(self, holds: Callable[[Outgoing], bool] = lambda _: False) -> None:
        """Count what is left in the queue as lost, except what `holds` reports as kept for the next run."""
        with self._lock:
            kept = sum(map(holds, self._queue))
            if len(self._queue) > kept:
                self._drops["stopped"] += len(self._queue) - kept
            self._queue.clear()
            self._waiting, self._kept, self._queued_bytes = 0, kept, 0

    def lost(self, cause: Cause, count: int = 1) -> None:
        """Count messages that were taken out and never arrived."""
        if count:
            with self._lock:
                self._drops[cause] += count

    def _drop_latest(self, cause: Cause) -> None:
        if self._latest:
            self._drops[cause] += len(self._latest)
            self._latest.clear()

    def _shrink(self) -> None:
        while len(self._queue) > self._queue_limit or (self._queued_bytes > self._queue_bytes and len(self._queue) > 1):
            self._lose(self._take_oldest(), "queue_full")

    def _take_oldest(self) -> Outgoing:
        message = self._queue.popleft()
        self._queued_bytes -= len(message.payload)
        return message

    def _lose(self, message: Outgoing, cause: Cause) -> None:
        self._drops[cause] += 1
        self._waiting -= 1
        self._forget(message)
