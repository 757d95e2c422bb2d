"""The publisher: one thread between the daemon and an MQTT broker that may be away, slow, frozen or unwilling.

Nothing here blocks a caller, and nothing grows: messages wait in an `Outbox`, and one is handed to the network only when the one before
it has gone into the socket. What must arrive is on disk as well, until the broker has it.
"""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepose.config import schema
from edgepose.errors import ConfigError
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import InfoMessage, Message, encode
from edgepose.mqtt.command_inbox import Command, CommandInbox
from edgepose.mqtt.connection import Protocol
from edgepose.mqtt.outbox import Outbox, Outgoing
from edgepose.mqtt.presence import Presence
from edgepose.mqtt.session import MqttSession

if TYPE_CHECKING:
    from edgepose.mqtt.event_store import EventStore

STOP_S = 2.5
STORE_STOP_S = 0.3

STORE_LOOK_S = 1.0
"""How long to wait for what an earlier run left, so that it goes first; a disk that takes longer holds nothing up."""


class MqttPublisher:
    """Publishes under `<prefix>/<device>/` and says `online`, `stopped` or, through the broker, `offline` on `status`.

    Args:
        mqtt: the configuration's section; password and certificates are read at once, ConfigError names what cannot be used.
        device: name of this device in topics.
        commands: told of each command on `<base>/command/<name>`, in the publisher's thread; must return at once. None hears no commands.
        store: file that keeps messages with QoS 1 until the broker has them; None keeps them in memory only.
        queue_limit: most messages with QoS 1 that wait; the oldest is dropped first.
    """

    def __init__(
        self,
        mqtt: schema.MqttConfig,
        device: str,
        commands: Callable[[Command], None] | None = None,
        *,
        store: Path | None = None,
        queue_limit: int = 1000,
    ) -> None:
        if not device or set(device) & set("/+#\0"):
            raise ConfigError(
                f"the device name {device!r} cannot be part of a topic; expected one that is not empty and has no '/', '+' or '#'"
            )
        self._mqtt = mqtt
        self._queue_limit = queue_limit
        self._base = f"{mqtt.prefix.strip('/')}/{device}"
        self._presence = Presence(self.topic(topic_address("status")), mqtt.encoding)
        self._command_inbox = CommandInbox(self._base, commands) if commands is not None else None
        self._store = self._open_store(store, queue_limit) if store is not None else None
        self._outbox = Outbox(queue_limit=queue_limit, forget=self._store.forget if self._store is not None else lambda _: None)
        self._session = MqttSession(mqtt, f"edgepose-{device}", self._presence, self._outbox, self._command_inbox)
        self._wake_writer: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> str:
        """`connected`, or in few words why not, such as `refused: not authorized` or `unreachable: connection refused`."""
        return self._session.state

    @property
    def connected(self) -> bool:
        """Whether the broker has let us in and is not known to be gone; a frozen broker is found out after two keep-alives."""
        return self._session.state == "connected"

    @property
    def protocol(self) -> Protocol | None:
        """MQTT version of the connection, or None without one."""
        return self._session.protocol

    @property
    def session(self) -> str:
        """Identifier of this run in status messages."""
        return self._presence.session

    @property
    def duplicate_session(self) -> str | None:
        """Session of another daemon that is online under our name, or None."""
        return self._presence.duplicate_session

    @property
    def sent(self) -> int:
        """Messages handed to the network so far."""
        return self._session.sent

    @property
    def turns(self) -> int:
        """Turns of the publisher's thread so far: a number that stands still for a minute is a thread that hangs."""
        return self._session.turns

    @property
    def alive(self) -> bool:
        """Whether the publisher's thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def drops(self) -> dict[str, int]:
        """Messages lost so far by cause: `no_connection`, `superseded`, `backlog`, `expired`, `queue_full`, `connection_lost`, …"""
        return self._outbox.drops

    @property
    def reconnects(self) -> int:
        """Times that a connection was made again."""
        return max(0, self._session.connections - 1)

    @property
    def events_waiting(self) -> int:
        """Messages with QoS 1, states aside, that the broker does not have yet."""
        return self._outbox.waiting

    @property
    def events_limit(self) -> int:
        """Most messages with QoS 1 that wait."""
        return self._queue_limit

    @property
    def store_failure(self) -> str | None:
        """Why messages that must arrive are in memory only, in few words; None while the store works, or where there is none."""
        return self._store.failure if self._store is not None else None

    @property
    def commands_ignored(self) -> dict[str, int] | None:
        """Commands that were not even looked at, by cause: `retained`, `too_long`, `failed`; None where none are heard."""
        return self._command_inbox.ignored if self._command_inbox is not None else None

    def topic(self, address: str) -> str:
        """Full name of a topic under this device."""
        return f"{self._base}/{address}"

    def start(self, info: InfoMessage | bytes | None = None) -> None:
        """Begin to connect, and go on trying; returns at once, whether or not there is a broker."""
        if info is not None:
            self.publish_retained(topic_address("info"), info)
        if self._store is not None:
            self._store.start()
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
        """Publish once: with QoS 0 the newest wins, with QoS 1 the message waits in a bounded queue until the broker has it.

        What the store holds with QoS 1 arrives at least once, even after a restart.
        """
        if qos == 0:
            self._put_latest(address, payload, None)
            return
        message = Outgoing(self.topic(address), self._encode(payload), qos=1)
        kept = self._store is not None and self._store.keep(message)
        if kept and self._session.ending:
            return  # it is for the next run
        self._outbox.put_queued(message)
        self._wake()

    def reply(self, command: Command, message: Message | bytes) -> None:
        """Answer a command, with QoS 1: where its sender wants it (MQTT 5), else on `<base>/reply/<name>`; forgotten after a minute."""
        if self._command_inbox is not None:
            self._outbox.put_queued(self._command_inbox.reply(command, self._encode(message), time.monotonic()))
            self._wake()

    def stop(self, reason: str = "stopped on request", within_s: float = STOP_S) -> None:
        """Send what is queued, say `stopped`, and disconnect, even where the broker is frozen within half a second more than told."""
        if self._session.ending:
            return
        self._outbox.close()
        self._session.end(reason, time.monotonic() + within_s)
        self._wake()
        if self._thread is not None:
            self._thread.join(within_s + 0.2)  # a host name that takes longer to look up is left to end by itself
        if self._store is not None:
            self._store.close(STORE_STOP_S)
            self._outbox.abandon(self._store.holds)
        else:
            self._outbox.abandon()
        self._session.enter("stopped")

    def _open_store(self, path: Path, limit: int) -> "EventStore":
        from edgepose.mqtt.event_store import EventStore  # SQLite takes 2 MiB and tens of milliseconds of a small board

        return EventStore(path, limit, self._found)

    def _found(self, messages: list[Outgoing], dropped: int) -> None:
        self._outbox.lost("queue_full", dropped)
        self._outbox.restore(messages)
        self._wake()

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
        if self._store is not None:
            self._store.looked.wait(STORE_LOOK_S)
        with wake:
            self._session.run(wake)
        if self._wake_writer is not None:
            self._wake_writer.close()
