"""The status of the publisher, as a value."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from edgepose.mqtt.connection import Protocol


class PublisherStats(msgspec.Struct, frozen=True):
    """The publisher at one moment; counts are since the start of the daemon.

    Attributes:
        enabled: whether a broker is configured.
        state: `connected`, or the reason in a few words, such as `refused: not authorized` or `unreachable: connection refused`.
        protocol: MQTT version of the connection, or None without one.
        session: identifier of the session in status messages; empty where there is none.
        duplicate_session: session of another daemon that is online under the same device name, or None.
        turns: turns of the session's thread so far; a number that stands still for a minute is a thread that hangs.
        sent: messages handed to the network.
        reconnects: times that the connection to the broker was restored.
        drops: messages lost, by cause (`edgepose.mqtt.outbox.Cause`).
        events_waiting: messages with QoS 1, states aside, that the broker does not have yet.
        events_limit: most of them that wait.
        store_failure: why messages that must arrive are in memory only, in a few words; None while the store works, or where there is none.
        store_lost: messages of earlier runs that the store no longer gives back; None where nobody knows how many.
        commands_ignored: commands that were ignored, by cause; None where none are subscribed to.
        replaced: sessions that hung, or whose thread died, and were replaced.
        packet_bytes: longest packet that the broker accepts, None where no limit is known.
    """

    enabled: bool = False
    state: str = "disabled"
    protocol: "Protocol | None" = None
    session: str = ""
    duplicate_session: str | None = None
    turns: int = 0
    sent: int = 0
    reconnects: int = 0
    drops: Mapping[str, int] = msgspec.field(default_factory=dict)
    events_waiting: int = 0
    events_limit: int = 0
    store_failure: str | None = None
    store_lost: int | None = 0
    commands_ignored: Mapping[str, int] | None = None
    replaced: int = 0
    packet_bytes: int | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the session and is not known to be gone; a frozen one is noticed after two keep-alives."""
        return self.state == "connected"
