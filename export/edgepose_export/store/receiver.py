"""A subscriber whose broker keeps its place: each message is acknowledged when the journal has it on the disk, and not before."""

import logging
import select
import socket
import ssl
import threading
import time
from dataclasses import replace

from edgepose.config.schema import MqttConfig
from edgepose.errors import OutputError
from edgepose.mqtt.connect_errors import ConnectFailure, from_error, from_hang_up, from_reason
from edgepose.mqtt.settings import BrokerSettings, ReloadingSettings
from edgepose.printable import printable
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose_export.store.counts import StoreCounts
from edgepose_export.store.journal import Journal
from edgepose_export.store.packets import (
    CONNACK,
    DISCONNECT,
    GOODBYE,
    PINGREQ,
    SUBACK,
    Control,
    PacketReader,
    Publication,
    Version,
    acknowledgments,
    connect_packet,
    subscribe_packet,
)

_log = logging.getLogger(__name__)

KEEPALIVE_S = 30
_RECEIVE_BYTES = 1 << 20
_GATHER_S = 0.01
"""Longest time that messages are gathered for one sync while more arrive."""

_GATHER_BYTES = 4 << 20
_UNACKNOWLEDGED_S = 1.0  # a sync at least this often, also where only QoS 0 arrives
_UNSUPPORTED = (1, 0x84)
_REASONS = {
    **{1: "unsupported protocol version", 2: "client identifier not valid", 3: "server unavailable", 4: "bad user name or password"},
    **{5: "not authorized", 0x84: "unsupported protocol version", 0x85: "client identifier not valid", 0x86: "bad user name or password"},
    **{0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy", 0x8A: "banned", 0x97: "quota exceeded"},
}
"""Reasons of a CONNACK: 3.1.1, section 3.2.2.3, and 5.0, section 3.2.2.2."""

_TAKEN_OVER = 0x8E


class _Ended(Exception):  # noqa: N818 (the end of a connection, for the caller in this module)
    """The end of a connection."""


class Receiver:
    """A connection to the broker that is restored for ever; it fills the journal.

    Args:
        mqtt: the configuration's section.
        client_id: of the session that the broker keeps.
        topics: filters to subscribe to.
        journal: of this thread.
        counts: of what arrives.
        session_expiry_s: how long the broker keeps the session without a connection (MQTT 5), seconds.
        message_limit_bytes: longest PUBLISH that is kept.

    Raises:
        ConfigError: the password or a certificate cannot be read.
    """

    def __init__(
        self,
        mqtt: MqttConfig,
        client_id: str,
        topics: list[str],
        journal: Journal,
        counts: StoreCounts,
        *,
        session_expiry_s: int,
        message_limit_bytes: int,
    ) -> None:
        self._hosts = mqtt.hosts
        self._reloading = ReloadingSettings(mqtt)
        self._versions: list[Version] = {"5": [5], "3.1.1": [4]}.get(mqtt.protocol, [5, 4])  # type: ignore[assignment]
        self._client_id = client_id
        self._topics = topics
        self._journal = journal
        self._counts = counts
        self._expiry_s = session_expiry_s
        self._limit_bytes = message_limit_bytes
        self._backoff = FullJitterBackoff(0.25, mqtt.reconnect_maximum_s)
        self._said = ""
        self.connected = threading.Event()
        """Set once the broker has granted the subscription for the first time."""

    def run(self, stop: threading.Event) -> None:
        """Receive until `stop` is set; the journal has everything then.

        Raises:
            OutputError: the journal cannot be written.
        """
        turn = 0
        failure: object
        while not stop.is_set():
            if self._journal.full():
                self._tell("the journal is full; receiving goes on when the tables have taken some of it")
                self._journal.rotate()
                stop.wait(1.0)
                continue
            settings = replace(self._reloading.refresh(), host=self._hosts[turn % len(self._hosts)])
            try:
                self._journal.sync()  # what the connection before left
                self._session(settings, stop)
                continue
            except _Ended as error:
                failure = error
            except OutputError as error:
                self._tell(f"{error}; nothing is received meanwhile")
                stop.wait(1.0)
                continue
            except (OSError, UnicodeError) as error:  # UnicodeError: a host name that is not valid
                failure = from_error(error, settings)
            turn += 1
            if stop.is_set():
                break
            self._tell(f"MQTT broker {settings.host}:{settings.port}: {failure}")
            self._counts.add("reconnects")
            stop.wait(self._backoff.next_s())
        self._journal.sync()
        self._journal.rotate()

    def _tell(self, text: str) -> None:
        """Log a state once."""
        if text != self._said:
            self._said = text
            _log.warning("%s", text)

    def _session(self, settings: BrokerSettings, stop: threading.Event) -> None:
        version = self._versions[0]
        with socket.create_connection((settings.host, settings.port), settings.connect_timeout_s) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = plain if settings.tls is None else settings.tls.wrap_socket(plain, server_hostname=settings.host)
            with sock:
                sock.sendall(
                    connect_packet(
                        version,
                        self._client_id,
                        keepalive_s=KEEPALIVE_S,
                        session_expiry_s=self._expiry_s,
                        username=settings.username,
                        password=settings.password,
                    )
                )
                _Session(self, settings, sock, version, stop).serve()

    def refused(self, code: int, settings: BrokerSettings) -> _Ended:
        """Return the end of a connection that the broker refuses; another version of MQTT is next where that is the reason."""
        if code in _UNSUPPORTED and len(self._versions) > 1:
            self._versions.pop(0)
        return _Ended(from_reason(_REASONS.get(code, f"reason {code}"), settings))


class _Session:
    """One connection."""

    def __init__(self, owner: Receiver, settings: BrokerSettings, sock: socket.socket, version: Version, stop: threading.Event) -> None:
        self._owner = owner
        self._settings = settings
        self._sock = sock
        self._version: Version = version
        self._stop = stop
        self._reader = PacketReader(version, owner._limit_bytes)
        self._accepted = False
        self._unacknowledged: list[int] = []
        self._unsynced = 0
        self._first_s = 0.0  # arrival of the first message that is not synced
        self._heard_s = self._sent_s = time.monotonic()

    def serve(self) -> None:
        """Receive until the program stops or the connection ends; raise _Ended or OSError then."""
        while not self._stop.is_set():
            wait_s = self._wait_s()
            readable = self._pending() or bool(select.select([self._sock], [], [], wait_s)[0])
            if readable:
                self._read()
            now_s = time.monotonic()
            if self._unsynced and (not readable or self._due(now_s)):
                self._sync()
            elif not readable:
                self._owner._journal.sync()  # closes an old segment
                if self._owner._journal.full():
                    return
            if now_s - self._sent_s > KEEPALIVE_S / 2:
                self._send(PINGREQ)
            if now_s - self._heard_s > (1.5 * KEEPALIVE_S if self._accepted else self._settings.connect_timeout_s):
                raise _Ended("no answer" if self._accepted else "unreachable: no answer")
        self._sync()
        self._send(GOODBYE)

    def _wait_s(self) -> float:
        if not self._unsynced:
            return 0.2
        # Those with QoS 0 have no acknowledgment that somebody waits for.
        return 0.0 if self._unacknowledged else min(0.2, max(0.0, self._first_s + _UNACKNOWLEDGED_S - time.monotonic()))

    def _due(self, now_s: float) -> bool:
        longest_s = _GATHER_S if self._unacknowledged else _UNACKNOWLEDGED_S
        return now_s - self._first_s >= longest_s or self._unsynced >= _GATHER_BYTES

    def _pending(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def _read(self) -> None:
        data = self._sock.recv(_RECEIVE_BYTES)
        if not data:
            if not self._accepted:
                raise _Ended(from_hang_up(self._settings))
            raise _Ended("lost: connection closed")
        self._heard_s = time.monotonic()
        now_ns = time.time_ns()
        at_us = now_ns // 1000
        journal, received = self._owner._journal, 0
        try:
            packets = self._reader.feed(data)
        except OutputError as error:
            raise _Ended(ConnectFailure(str(error))) from error
        for packet in packets:
            if isinstance(packet, Control):
                self._control(packet)
                continue
            received += 1
            if not self._unsynced:
                self._first_s = self._heard_s
            self._take(packet, at_us)
            if packet.payload is not None:
                journal.append(packet.topic, packet.payload, at_us)
        if received:
            self._owner._counts.add("received", received)

    def _take(self, packet: Publication, at_us: int) -> None:
        if packet.payload is None:
            self._owner._counts.drop("too_large", printable(packet.topic[:80].decode("utf-8", "replace"), 80))
        self._unsynced += 1 + len(packet.payload or b"")
        if packet.identifier:
            self._unacknowledged.append(packet.identifier)

    def _sync(self) -> None:
        self._owner._journal.sync()
        if self._unacknowledged:
            self._send(acknowledgments(self._unacknowledged))
        self._unacknowledged, self._unsynced = [], 0

    def _send(self, data: bytes) -> None:
        self._sock.sendall(data)
        self._sent_s = time.monotonic()

    def _control(self, packet: Control) -> None:
        owner = self._owner
        if packet.kind == CONNACK:
            code = packet.body[1] if len(packet.body) > 1 else 255
            if code:
                raise owner.refused(code, self._settings)
            self._accepted = True
            resumed = bool(packet.body[0] & 1)
            if owner.connected.is_set() and not resumed:
                _log.warning("the broker has no session of %s any more: what was published meanwhile is lost", owner._client_id)
            self._send(subscribe_packet(self._version, 1, owner._topics))
        elif packet.kind == SUBACK:
            if any(code & 0x80 for code in packet.body[-len(owner._topics) :]):
                raise _Ended(f"refuses the subscription to {', '.join(owner._topics)}; expected the right to read them")
            owner._backoff.reset()
            owner.connected.set()
            owner._said = ""
            _log.info("subscribed to %s at %s:%d", ", ".join(owner._topics), self._settings.host, self._settings.port)
        elif packet.kind == DISCONNECT:
            code = packet.body[0] if packet.body else 0
            if code == _TAKEN_OVER:
                raise _Ended(f"another program uses the client identifier {owner._client_id}; expected one of its own (--client-id)")
            raise _Ended(f"lost: {_REASONS.get(code, f'reason {code}')}")
