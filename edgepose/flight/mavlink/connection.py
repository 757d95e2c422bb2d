"""The thread that listens to an autopilot, and tells it and a ground station what edgepose sees."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from edgepose.config.aircraft import FlightConfig
from edgepose.errors import UnavailableError
from edgepose.flight.history import TelemetryHistory
from edgepose.flight.mavlink.library import load_dialect, open_codec, read_signing_key
from edgepose.flight.mavlink.reader import MavlinkReader
from edgepose.flight.reports import SeenPeople, heartbeat, people_packets, status_text
from edgepose.flight.transports import Transport, open_transport
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread

_log = logging.getLogger(__name__)

_TURN_S = 0.1
_REPORT_S = 1.0
_STUCK_S = 20.0  # a turn takes a tenth of a second; opening a TCP connection five
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 5.0


class MavlinkConnection(SupervisedThread):
    """The connection to one vehicle, opened again whenever it breaks.

    Args:
        settings: section `flight`.
        history: receives the telemetry.

    Raises:
        ConfigError: pymavlink is not installed, or the signing key cannot be read.

    Attributes:
        reader: of the packets.
        failure_text: why the link is not open, None where it is.
        malformed: packets that are damaged, or lack a valid signature.
    """

    def __init__(self, settings: FlightConfig, history: TelemetryHistory) -> None:
        super().__init__("flight", _STUCK_S)
        self._settings = settings
        self._dialect = load_dialect()
        self._key = read_signing_key(settings.mavlink.signing_key_file)
        self.reader = MavlinkReader(history, settings.mavlink.system_id, settings.mavlink.component_id, settings.height)
        self.failure_text: str | None = None
        self.malformed = 0
        self._lock = threading.Lock()  # guards what other threads tell
        self._seen: dict[str, SeenPeople] = {}
        self._degraded: Sequence[str] = ()
        self._works = True
        self._told: Sequence[str] | None = None
        self._people_transport: Transport | None = None

    def tell_people(self, camera: str, seen: SeenPeople) -> None:
        """Take the people of a camera's newest frame; from any thread."""
        with self._lock:
            self._seen[camera] = seen

    def tell_health(self, degraded: Sequence[str], *, works: bool) -> None:
        """Take the daemon's health; from any thread."""
        with self._lock:
            self._degraded, self._works = tuple(degraded), works

    def close(self, timeout_s: float) -> None:
        """End the thread."""
        self.ending.set()
        if self.ident is not None:
            self.join(timeout_s)

    def work(self) -> None:
        """Listen until the end; open the link again with growing pauses."""
        backoff = FullJitterBackoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while not self.ending.is_set():
            self.heartbeat.beat()
            transport: Transport | None = None
            try:
                transport = open_transport(self._settings.mavlink.address)
                self._tell_link(None)
                self._listen(transport)
                backoff.reset()
            except (OSError, UnavailableError) as error:
                self._tell_link(str(error))
            finally:
                for wire in (transport, self._people_transport):
                    if wire is not None:
                        wire.close()
                self._people_transport = None
            self.ending.wait(backoff.next_s())

    def _tell_link(self, failure: str | None) -> None:
        if failure != self.failure_text:
            if failure is None:
                _log.info("telemetry: %s is open", self._settings.mavlink.address)
            else:
                _log.warning("telemetry is lost: %s; trying again", failure)
        self.failure_text = failure

    def _listen(self, transport: Transport) -> None:
        codec = open_codec(self._dialect, self.reader.system_id, self._settings.report.component_id, self._key)
        people = open_codec(self._dialect, self.reader.system_id, self._settings.report.component_id, self._key)
        next_report_s = time.monotonic()
        while not self.ending.is_set():
            self.heartbeat.beat()
            data = transport.receive(_TURN_S)
            arrival_ns = time.monotonic_ns()
            if data:
                for message in self._decoded(codec, data):
                    self.reader.take(message, arrival_ns)
            if time.monotonic() >= next_report_s:
                next_report_s = time.monotonic() + _REPORT_S
                self._report(codec, people, transport)

    def _decoded(self, codec: Any, data: bytes) -> list[Any]:
        """Return the packets in what has arrived; damaged and unsigned ones are counted."""
        messages = codec.parse_buffer(data) or []
        good = [message for message in messages if message.get_type() != "BAD_DATA"]
        self.malformed += len(messages) - len(good)
        return good

    def _report(self, codec: Any, people_codec: Any, transport: Transport) -> None:
        """Send what is wanted, once the vehicle is known whose component edgepose is."""
        if self.reader.system_id == 0:
            return
        report = self._settings.report
        codec.srcSystem = people_codec.srcSystem = self.reader.system_id
        with self._lock:
            seen, degraded, works = dict(self._seen), self._degraded, self._works
        if report.heartbeat:
            transport.send(heartbeat(self._dialect, works=works).pack(codec))
            codec.seq = (codec.seq + 1) % 256
            if degraded != self._told and (degraded or self._told is not None):
                transport.send(status_text(self._dialect, degraded).pack(codec))
                codec.seq = (codec.seq + 1) % 256
            self._told = degraded
        if report.people_address is not None:
            self._send_people(people_codec, report.people_address, seen, works=works)

    def _send_people(self, codec: Any, address: str, seen: dict[str, SeenPeople], *, works: bool) -> None:
        try:
            if self._people_transport is None:
                self._people_transport = open_transport(address)
            now_s, limit = time.monotonic(), self._settings.report.people_limit
            packets = [packet for camera, each in seen.items() for packet in people_packets(self._dialect, camera, each, limit, now_s)]
            self._people_transport.receive(0)  # what a ground station sends is not for us
            for packet in (heartbeat(self._dialect, works=works), *packets):
                self._people_transport.send(packet.pack(codec))
                codec.seq = (codec.seq + 1) % 256
        except (OSError, UnavailableError) as error:
            _log.debug("people are not sent to %s: %s", address, error)
            if self._people_transport is not None:
                self._people_transport.close()
                self._people_transport = None
