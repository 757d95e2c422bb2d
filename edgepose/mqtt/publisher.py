"""The publisher of the daemon, which works with an MQTT broker that may be absent, slow, frozen or refusing.

Nothing here blocks a caller, and nothing grows: messages wait in an `Outbox`, and the session hands one to the network only when the one
before it is written to the socket. What must arrive is also on disk until the broker has it.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from edgepose.errors import ConfigError
from edgepose.messages import compact
from edgepose.messages.pose_thinning import PoseThinning
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import InfoMessage, Message, PosesMessage
from edgepose.mqtt.command_inbox import IGNORED_CAUSES, Command, CommandInbox
from edgepose.mqtt.lease import OutboxLease
from edgepose.mqtt.outbox import Outbox, Outgoing
from edgepose.mqtt.presence import EngineBuild, Presence
from edgepose.mqtt.settings import PublisherSettings
from edgepose.mqtt.stats import PublisherStats
from edgepose.supervision.heartbeat import Heartbeat

if TYPE_CHECKING:  # a daemon without a broker loads no client
    from edgepose.mqtt.session import MqttSession, TakeIncoming
    from edgepose.storage.event_store import EventStore

_log = logging.getLogger(__name__)

STOP_S = 2.5
STORE_STOP_S = 0.3

STORE_LOAD_S = 1.0
"""Longest wait of a new session for the messages of earlier runs, so that they are sent first; a slower disk delays nothing."""

ABANDONED_LIMIT = 4
"""Maximum number of threads that hang and were replaced."""

_HANG_S = 60.0  # beyond the session's own timeouts: a name server that is away blocks its caller for half a minute
_JOIN_S = 0.2


class MqttPublisher:
    """A publisher under `<prefix>/<device>/` that publishes `online`, `stopped` or, through the broker, `offline` on `status`.

    It lives as long as the daemon, and owns the outbox, the counters, the event store and the retained states. A reload or a hang
    replaces only its `MqttSession`. Where no broker is configured there is no session: states are kept, the rest is discarded.

    `supervise`, `change` and `stop` belong to the main thread; all else is safe for any number of threads.

    Args:
        settings: password and certificates are read immediately, ConfigError names what cannot be used.
        commands: receives each command on `<base>/command/<name>`, in the session's thread; must return immediately.
        bundles: receives each message on the topics of bundles, likewise.

    Attributes:
        heartbeat: of the session's thread; beaten by `supervise`.
    """

    def __init__(
        self, settings: PublisherSettings, commands: Callable[[Command], None] | None = None, bundles: "TakeIncoming | None" = None
    ) -> None:
        self._settings = settings
        self._commands = commands
        self._bundles = bundles
        self._lock = threading.Lock()  # guards the eight below, and the exchange of the store against `publish`
        self._session: MqttSession | None = None
        self._inbox: CommandInbox | None = None
        self._ignored = Counter(dict.fromkeys(IGNORED_CAUSES, 0))  # all keys from the start: its size never changes while it is copied
        self._store: EventStore[Outgoing] | None = None
        self._build: EngineBuild | None = None
        self._state = "disabled"  # without a session
        self._replaced = 0
        self._stopped = False
        self._abandoned: list[MqttSession] = []
        self._turns = -1
        self._started = False
        self.heartbeat = Heartbeat(_HANG_S)
        self._thinning = PoseThinning(settings.mqtt.poses)
        self._outbox = Outbox(queue_limit=settings.queue_limit, forget=self._forget)
        self._open_session()
        self._open_store()

    def stats(self) -> PublisherStats:
        """Return the state and the counts of this moment."""
        with self._lock:
            session, outbox = self._session, self._outbox.stats()
            return PublisherStats(
                enabled=self._settings.mqtt.enabled,
                state=self._state if session is None else session.state,
                protocol=None if session is None else session.protocol,
                session="" if session is None else session.presence.session,
                duplicate_session=None if session is None else session.presence.duplicate_session,
                turns=0 if session is None else session.turns,
                sent=outbox.sent,
                reconnects=outbox.reconnects,
                drops=outbox.drops,
                events_waiting=outbox.waiting,
                events_limit=self._settings.queue_limit,
                store_failure=None if self._store is None else self._store.failure,
                store_lost=0 if self._store is None else self._store.lost,
                commands_ignored=None if self._inbox is None else dict(+self._ignored),
                replaced=self._replaced,
                packet_bytes=None if session is None else session.packet_bytes,
            )

    def start(self, info: InfoMessage | None = None, within_s: float = 0.0) -> None:
        """Start connecting, and retry until it succeeds.

        Args:
            info: what runs on the device.
            within_s: how long to wait for the broker; 0 returns immediately.
        """
        if info is not None:
            self.publish_retained(topic_address("info"), info)
        self._started = True
        if self._store is not None:
            self._store.start()
        if self._session is None:
            return
        self._start(self._session)
        deadline_s = time.monotonic() + within_s
        while self._session.state != "connected" and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def publish_poses(self, camera: str, payload: Message | bytes) -> None:
        """Publish the poses of one frame, unless `mqtt.poses` leaves it out.

        Of those that wait, only the newest of each camera is kept, and none that is outdated.
        """
        settings = self._settings
        if not settings.mqtt.enabled:
            return
        if isinstance(payload, PosesMessage):
            if not self._thinning.passes(payload, time.monotonic()):
                self._outbox.lost("thinned")
                return
            payload = replace(payload, session=self._session_id())
        self._put_latest(topic_address("poses", camera), payload, settings.mqtt.pose_expiry_s)

    def publish_retained(self, address: str, payload: Message | bytes, *, whole: bool = False) -> None:
        """Set the state of a topic, with QoS 1; it is kept and sent again after each connection.

        Args:
            address: topic below the device's own, or a whole topic.
            payload: the state; empty bytes clear the topic.
            whole: whether the address is a whole topic.
        """
        self._settings.encode(payload)  # an error belongs to the caller: in the session's thread it would end every connection
        self._outbox.put_retained(address, payload, whole=whole)
        self._wake()

    def tell_build(self, build: EngineBuild | None) -> None:
        """Tell with `online` how far the build of an engine is; None ends that."""
        with self._lock:
            if build == self._build:
                return
            self._build, session = build, self._session
        if session is not None:
            session.presence.build = build
            session.wake()

    def clear(self, address: str, *, whole: bool = False) -> None:
        """Clear the state of a topic whose subject is gone."""
        self.publish_retained(address, b"", whole=whole)

    def publish(self, address: str, payload: Message | bytes, qos: Literal[0, 1] = 0) -> None:
        """Publish once: with QoS 0 the newest wins, with QoS 1 the message waits in a bounded queue until the broker has it.

        What the store holds with QoS 1 arrives at least once, even after a restart.
        """
        if qos == 0:
            self._put_latest(address, payload, None)
            return
        settings = self._settings
        if not settings.mqtt.enabled:
            return
        message = Outgoing(f"{settings.base}/{address}", settings.encode(payload), qos=1)
        with self._lock:
            kept = self._store is not None and self._store.keep(message)
            if kept and self._stopped:
                return  # the next run sends it
            self._outbox.put_queued(message)
        self._wake()

    def forget(self, unwanted: Callable[[bytes], bool], within_s: float, *, always: bool = True) -> int | None:
        """Delete events that wait for the broker, also from the store; return how many, None where the disk takes too long.

        Args:
            unwanted: whether a payload is deleted.
            within_s: longest wait for the disk.
            always: as in `EventStore.purge`.
        """
        removed = self._outbox.remove(unwanted)
        with self._lock:
            store = self._store
        purged = 0 if store is None else store.purge(unwanted, within_s, always=always)
        return None if purged is None else removed + purged

    def reply(self, command: Command, message: Message | bytes) -> None:
        """Answer a command, with QoS 1: where its sender wants it (MQTT 5), else on `<base>/reply/<name>`; dropped after a minute."""
        with self._lock:
            inbox = self._inbox
        if inbox is not None:
            self._outbox.put_queued(inbox.reply(command, self._settings.encode(message), time.monotonic()))
            self._wake()

    def supervise(self, now_s: float) -> None:
        """Beat the heartbeat if the session's thread has progressed, and replace a session that hangs or has died.

        Raises:
            ConfigError: a password or certificate can no longer be read; the next call tries again.
        """
        session = self._session
        if session is None:
            self.heartbeat.end()
            self._open_session()
            return
        if session.turns != self._turns:
            self._turns = session.turns
            self.heartbeat.beat(self.heartbeat.bound_s)
        self._abandoned = [abandoned for abandoned in self._abandoned if abandoned.alive()]
        alive = session.alive()
        if (self.heartbeat.stuck(now_s) or not alive) and len(self._abandoned) < ABANDONED_LIMIT:
            _log.error("the publisher %s and is replaced", "hangs" if alive else "has died")
            self._end_session(session, "the publisher is replaced", wait=False)
            with self._lock:
                self._replaced += 1
            self._open_session()

    def change(self, settings: PublisherSettings, info: InfoMessage | None, reason: str) -> None:
        """End the session with `stopped` and continue with another session, or none.

        Args:
            settings: from now on.
            info: what runs on the device from now on; None leaves it.
            reason: goes into the `stopped` message.

        Raises:
            ConfigError: a password or certificate cannot be read; `supervise` tries again.
        """
        if self._session is not None:
            self._end_session(self._session, reason, wait=True)
        with self._lock:
            former, self._settings = self._settings, settings
        self._thinning = PoseThinning(settings.mqtt.poses)
        self._outbox.limit(settings.queue_limit)
        if info is not None:
            self._outbox.put_retained(topic_address("info"), info)
        if (settings.mqtt.enabled, settings.store) != (former.mqtt.enabled, former.store):
            self._exchange_store()
        self._open_session()

    def stop(self, reason: str = "stopped on request", within_s: float = STOP_S) -> None:
        """Send what is queued, publish `stopped`, and disconnect; a frozen broker takes at most half a second more than `within_s`."""
        if self._stopped:
            return
        with self._lock:
            self._stopped = True  # before the outbox closes: from here on, the store keeps events for the next run
        self._outbox.close()
        session = self._session
        if session is not None:
            session.end(reason, time.monotonic() + within_s)
            session.join(within_s + _JOIN_S)  # a host name that takes longer to resolve is left to end by itself
            session.lease.revoke()
        if self._store is not None:
            self._store.close(STORE_STOP_S)
            self._outbox.abandon(self._store.holds)
        else:
            self._outbox.abandon()
        if session is not None:
            session.enter("stopped")

    def _open_session(self) -> None:
        """Open and, after `start`, begin a session where a broker is configured."""
        settings = self._settings
        if not settings.mqtt.enabled:
            self._state = "disabled"
            return
        from edgepose.mqtt.session import MqttSession

        presence = Presence(f"{settings.base}/{topic_address('status')}", settings.mqtt.message_encoding)
        presence.build = self._build
        inbox = None
        if settings.commands and self._commands is not None:
            inbox = CommandInbox(settings.base, self._commands, self._ignored, settings.response_topics)
        lease = OutboxLease(self._outbox, settings.state_encoder(presence.session), settings.states)
        try:
            session = MqttSession(settings.mqtt, f"edgepose-{settings.device}", presence, lease, inbox, self._others())
        except ConfigError:
            self._state = "not started: the password or a certificate cannot be read"
            raise
        self._turns = -1
        self.heartbeat.end()
        self.heartbeat.bound_s = _HANG_S + settings.mqtt.connect_timeout_s + settings.mqtt.reconnect_maximum_s
        with self._lock:
            self._session, self._inbox = session, inbox
        if self._started:
            self._start(session)

    def _others(self) -> "dict[str, TakeIncoming]":
        return {} if self._bundles is None else dict.fromkeys(self._settings.bundle_topics, self._bundles)

    def _start(self, session: "MqttSession") -> None:
        session.start(self._store.loaded if self._store is not None else None, STORE_LOAD_S)

    def _end_session(self, session: "MqttSession", reason: str, *, wait: bool) -> None:
        session.end(reason, time.monotonic() + STOP_S)
        if wait:
            session.join(STOP_S + _JOIN_S)
        session.lease.revoke()
        session.enter("stopped")
        if session.alive():
            self._abandoned.append(session)
        self._outbox.drop_cleared()
        with self._lock:
            self._session, self._inbox, self._state = None, None, "connecting"

    def _open_store(self) -> None:
        settings = self._settings
        if settings.mqtt.enabled and settings.store is not None:
            from edgepose.storage.event_store import EventStore

            self._store = EventStore(settings.store, settings.queue_limit, self._restore, _stored_message)
            if self._started:
                self._store.start()

    def _exchange_store(self) -> None:
        """Move what waits into another store; without a broker it stays in the former one, and is taken up again with it."""
        with self._lock:
            before, self._store = self._store, None
            if self._settings.mqtt.enabled:
                self._outbox.restore([])  # what a former store keeps no longer waits; its own loading counts it again
                waiting = [message for message in self._outbox.queued() if message.expires_at_s is None]  # replies are never stored
                self._open_store()
                for message in waiting:
                    if self._store is not None:
                        self._store.keep(message)
                    if before is not None:
                        before.forget(message)
        if before is not None:
            before.close(STORE_STOP_S)
            if not self._settings.mqtt.enabled:
                self._outbox.abandon(before.holds)

    def _restore(self, messages: list[Outgoing], dropped: int) -> None:
        self._outbox.lost("queue_full", dropped)
        store = self._store
        if store is not None:
            self._outbox.lost("damaged", store.lost or 0)
        self._outbox.restore(messages)
        self._wake()

    def _forget(self, message: Outgoing) -> None:
        store = self._store
        if store is not None:
            store.forget(message)

    def _session_id(self) -> str | UnsetType:
        session = self._session
        return UNSET if session is None else session.presence.session

    def _put_latest(self, address: str, payload: Message | bytes, expiry_s: float | None) -> None:
        settings = self._settings
        if not settings.mqtt.enabled:
            return
        self._outbox.put_latest(
            Outgoing(
                f"{settings.base}/{address}",
                settings.encode(payload),
                expires_at_s=None if expiry_s is None else time.monotonic() + expiry_s,
                expiry_s=None if expiry_s is None else math.ceil(expiry_s),
                content_type=compact.CONTENT_TYPE if settings.mqtt.encoding == "compact" and isinstance(payload, PosesMessage) else None,
            )
        )
        self._wake()

    def _wake(self) -> None:
        session = self._session
        if session is not None:
            session.wake()


def _stored_message(topic: str, payload: bytes) -> Outgoing:
    return Outgoing(topic, payload, qos=1)
