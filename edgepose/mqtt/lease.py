"""The right of one session to send what waits in the outbox, which can be revoked at any time."""

import threading
from collections.abc import Callable, Collection

from edgepose.mqtt.outbox import Cause, Outbox, Outgoing, RetainedState


class OutboxLease:
    """The access of one session to the outbox, until `revoke`.

    A session may hang in the network for minutes. Another one then takes its place, and the one that hangs must not touch the outbox
    when it wakes: a revoked lease gives it no message, and ignores what it reports. What it had taken out and not settled goes back
    into the queue.

    Safe for any number of threads; no method blocks.

    Args:
        outbox: the messages of the daemon.
        encode: encodes a retained state for this session.
        states: addresses of states that this device has, even where it has not set them yet.
    """

    def __init__(self, outbox: Outbox, encode: Callable[[RetainedState], Outgoing], states: Collection[str] = ()) -> None:
        self._outbox = outbox
        self._encode = encode
        self._states = states
        self._lock = threading.Lock()  # held around each use of the outbox, so that none is under way after `revoke`
        self._revoked = False
        self._was_connected = False
        self._own: dict[str, Outgoing] = {}  # by topic
        self._taken: dict[Outgoing, None] = {}  # queued messages that are not settled, oldest first

    def send_first(self, message: Outgoing) -> None:
        """Send a state of the session itself before all else; a newer one of the same topic replaces it."""
        with self._lock:
            if not self._revoked:
                self._own[message.topic] = message

    def pop(self, now_s: float, *, acknowledged: bool, latest: bool) -> Outgoing | None:
        """Take out the next message to send; arguments as in `Outbox.pop`."""
        with self._lock:
            if self._revoked:
                return None
            if acknowledged and self._own:
                return self._own.pop(next(iter(self._own)))
            message = self._outbox.pop(now_s, acknowledged=acknowledged, latest=latest)
            if isinstance(message, RetainedState):
                return self._encode(message)
            if message is not None and message.qos > 0:
                self._taken[message] = None
            return message

    def pending(self, *, acknowledged: bool = True, latest: bool = True) -> bool:
        """Return whether a message waits that `pop` would return with the same arguments."""
        with self._lock:
            if self._revoked:
                return False
            return bool(acknowledged and self._own) or self._outbox.pending(acknowledged=acknowledged, latest=latest)

    def count_sent(self) -> None:
        """Count a message that was handed to the network."""
        with self._lock:
            if not self._revoked:
                self._outbox.count_sent()

    def settle(self, message: Outgoing, *, lost: Cause | None = None) -> None:
        """Finish a message that was taken out: it has arrived, or was lost for a cause."""
        with self._lock:
            if not self._revoked:
                self._taken.pop(message, None)
                self._outbox.settle(message, lost=lost)

    def discard(self, message: Outgoing, cause: Cause) -> None:
        """Give up a message that was taken out and must not be sent."""
        with self._lock:
            if self._revoked:
                return
            if message.qos == 0:
                self._outbox.lost(cause)
            else:
                self._taken.pop(message, None)
                self._outbox.settle(message, lost=cause)

    def repeat_states(self) -> None:
        """Send every retained state again."""
        with self._lock:
            if not self._revoked:
                self._outbox.repeat_states()

    def clear_unknown(self, address: str, *, whole: bool = False) -> bool:
        """Clear a retained topic that has no state here, and return whether there was none."""
        with self._lock:
            return not self._revoked and address not in self._states and self._outbox.clear_unknown(address, whole=whole)

    def connected(self) -> None:
        """Note that the broker has accepted the session."""
        with self._lock:
            if not self._revoked:
                self._outbox.connected(again=self._was_connected)
                self._was_connected = True

    def blocked(self, blocked: bool) -> None:
        """Note whether the connection takes no more messages for now."""
        with self._lock:
            if not self._revoked:
                self._outbox.blocked(blocked)

    def disconnected(self, unwritten: int) -> None:
        """Note that the connection is gone; messages that were taken out and never acknowledged go back into the queue.

        Args:
            unwritten: messages with QoS 0 that were taken out and not completely written to the socket.
        """
        with self._lock:
            if not self._revoked:
                self._outbox.lost("connection_lost", unwritten)
                self._give_back()

    def revoke(self) -> None:
        """End the lease; afterwards the session can no longer affect the outbox."""
        with self._lock:
            if not self._revoked:
                self._revoked = True
                self._give_back()

    def _give_back(self) -> None:
        self._own.clear()
        self._outbox.disconnected()
        self._outbox.put_back(list(self._taken))
        self._taken.clear()
