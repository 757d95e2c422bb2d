"""What waits for the broker, in bounded memory: newest wins where only the newest matters, and every drop has a cause."""

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Cause = Literal["no_connection", "superseded", "backlog", "expired", "queue_full", "connection_lost", "refused_by_broker", "stopped"]


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """One message for the broker.

    Attributes:
        topic: full name.
        payload: encoded message.
        qos: 0 or 1.
        retained: whether the broker keeps it for late subscribers.
        expires_at_s: clock reading after which nobody wants it, or None.
        expiry_s: how long the broker may keep it, whole seconds, or None.
        correlation: what the asker of a reply knows it by, or None.
    """

    topic: str
    payload: bytes
    qos: int = 0
    retained: bool = False
    expires_at_s: float | None = None
    expiry_s: int | None = None
    correlation: bytes | None = None


class Outbox:
    """Three kinds of messages, each with its own bound; safe for any number of threads.

    - *latest* (QoS 0): one slot a topic; a newer message takes the place of an unsent one. Dropped while there is no connection.
    - *retained* (QoS 1): one slot a topic that is never lost and is sent again after each connection.
    - *queued* (QoS 1): a first-in first-out queue that survives the loss of a connection; when full, the oldest message goes.

    Args:
        queue_limit: most messages in the queue.
        queue_bytes: most bytes of their payloads; the newest message is taken whatever its size.
        topic_limit: most topics of each slotted kind; a guard against names made up at run time.
        forget: told of each queued message that is settled, arrived or lost; must not call back.
    """

    def __init__(
        self,
        *,
        queue_limit: int = 1000,
        queue_bytes: int = 32 * 2**20,
        topic_limit: int = 1000,
        forget: Callable[[Outgoing], None] = lambda _: None,
    ) -> None:
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._forget = forget
        self._topic_limit = topic_limit
        self._lock = threading.Lock()
        self._link: Literal["down", "open", "blocked", "closed"] = "down"
        self._latest: OrderedDict[str, Outgoing] = OrderedDict()
        self._retained: dict[str, Outgoing] = {}
        self._unsent: OrderedDict[str, None] = OrderedDict()  # topics of `_retained`
        self._queue: deque[Outgoing] = deque()
        self._queued_bytes = 0
        self._waiting = 0
        self._drops: Counter[Cause] = Counter()

    @property
    def drops(self) -> dict[str, int]:
        """Messages lost so far, by cause."""
        with self._lock:
            return {str(cause): count for cause, count in self._drops.items()}

    @property
    def waiting(self) -> int:
        """Queued messages that are not settled: those in the queue, and those that were taken out to be sent."""
        return self._waiting

    def put_latest(self, message: Outgoing) -> None:
        """Take a message of which only the newest of its topic matters."""
        with self._lock:
            if self._link == "closed":
                self._drops["stopped"] += 1
            elif self._link == "down":
                self._drops["no_connection"] += 1
            elif message.topic in self._latest:
                self._drops["backlog" if self._link == "blocked" else "superseded"] += 1
                self._latest[message.topic] = message  # keeps its turn: a busy camera cannot starve, nor be starved
            elif len(self._latest) >= self._topic_limit:
                self._drops["queue_full"] += 1
            else:
                self._latest[message.topic] = message

    def put_retained(self, message: Outgoing) -> None:
        """Take the new state of a topic; the state before it is no loss."""
        with self._lock:
            if message.topic not in self._retained and len(self._retained) >= self._topic_limit:
                self._drops["queue_full"] += 1
                return
            self._retained[message.topic] = message
            self._unsent[message.topic] = None

    def put_queued(self, message: Outgoing) -> None:
        """Take a message that must arrive; when the queue is full the oldest one is lost."""
        with self._lock:
            if self._link == "closed":
                self._drops["stopped"] += 1
                self._forget(message)
                return
            self._queue.append(message)
            self._waiting += 1
            self._queued_bytes += len(message.payload)
            self._shrink()

    def restore(self, messages: list[Outgoing]) -> None:
        """Take messages that an earlier run left behind, oldest first; they go before all others."""
        with self._lock:
            self._waiting += len(messages)
        self.put_back(messages)

    def settle(self, message: Outgoing, *, lost: Cause | None = None) -> None:
        """Be done with a message that was taken out: it has arrived, or was lost for a cause."""
        with self._lock:
            if lost is not None:
                self._drops[lost] += 1
            if not message.retained:
                self._waiting -= 1
                self._forget(message)

    def put_back(self, messages: list[Outgoing]) -> None:
        """Take queued messages that were sent and never acknowledged, oldest first; they go before all others."""
        with self._lock:
            self._queue.extendleft(reversed(messages))
            self._queued_bytes += sum(len(message.payload) for message in messages)
            self._shrink()

    def pop(self, now_s: float, *, acknowledged: bool = True, latest: bool = True) -> Outgoing | None:
        """The next message to send: states first, then queued ones, then the latest, topic by topic.

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
        """Whether anything waits that `pop` would give with the same arguments."""
        with self._lock:
            return bool((latest and self._latest) or (acknowledged and (self._unsent or self._queue)))

    def connected(self) -> None:
        """A connection stands: every retained state is to be said again."""
        with self._lock:
            if self._link != "closed":
                self._link = "open"
            self._unsent = OrderedDict.fromkeys(self._retained)

    def blocked(self, blocked: bool) -> None:
        """The connection takes no more, or does again."""
        with self._lock:
            if self._link in ("open", "blocked"):
                self._link = "blocked" if blocked else "open"

    def disconnected(self) -> None:
        """The connection is gone: the latest messages are old news by the time it returns."""
        with self._lock:
            if self._link != "closed":
                self._link = "down"
            self._drop_latest("no_connection")

    def close(self) -> None:
        """Take no more but states; the latest messages are dropped, the queue is left for sending."""
        with self._lock:
            self._link = "closed"
            self._drop_latest("stopped")

    def abandon(self, holds: Callable[[Outgoing], bool] = lambda _: False) -> None:
        """Count what is left in the queue as lost, but for what somebody holds for the next run."""
        with self._lock:
            self._waiting = sum(map(holds, self._queue))
            if len(self._queue) > self._waiting:
                self._drops["stopped"] += len(self._queue) - self._waiting
            self._queue.clear()
            self._queued_bytes = 0

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
