"""A running store: one thread receives into the journal, another takes closed segments of it into the tables."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepose.config.schema import MqttConfig
from edgepose.errors import OutputError, UnavailableError
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose_export.store.counts import StoreCounts
from edgepose_export.store.forgotten import Forgotten
from edgepose_export.store.journal import Journal, read_segment
from edgepose_export.store.receiver import Receiver
from edgepose_export.store.rows import Rows
from edgepose_export.store.sink import TableSink

_log = logging.getLogger(__name__)

_TURN_S = 0.2
_RETAIN_S = 600.0


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Settings of a store.

    Attributes:
        folder: of its journal, and of its Parquet files where it has them.
        client_id: of the session that the broker keeps.
        session_days: how long the broker keeps it without a connection (MQTT 5).
        flush_s: age after which received messages go into the tables, seconds.
        retain_days: age after which days are removed; None for never.
        message_limit_bytes: longest PUBLISH that is kept.
        journal_limit_bytes: what may wait for the tables.
    """

    folder: Path
    client_id: str = "edgepose-store"
    session_days: int = 7
    flush_s: float = 10.0
    retain_days: int | None = None
    message_limit_bytes: int = 1 << 20
    journal_limit_bytes: int = 4 << 30


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of the one process that receives into a folder.

    Raises:
        UnavailableError: another process holds it.
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "writer.lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}; expected a folder for the store") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UnavailableError(f"another store runs in {folder}; expected a folder of its own for each") from error
    try:
        yield
    finally:
        os.close(descriptor)


def journal_folder(folder: Path) -> Path:
    """Return the folder of a store's journal."""
    return folder / "journal"


class Store:
    """A store; `run` it once.

    Args:
        settings: of the store.
        mqtt: the configuration's section.
        sink: where rows are kept; the store closes it.

    Attributes:
        counts: of what it does.

    Raises:
        ConfigError: the password or a certificate of the broker cannot be read.
        OutputError: the folder cannot be written.
    """

    def __init__(self, settings: StoreSettings, mqtt: MqttConfig, sink: TableSink) -> None:
        self.counts = StoreCounts()
        self._settings = settings
        self._prefix = mqtt.prefix.strip("/")
        self._sink = sink
        self._rows: Rows | None = None
        self._journal = Journal(journal_folder(settings.folder), segment_s=settings.flush_s, limit_bytes=settings.journal_limit_bytes)
        self.receiver = Receiver(
            mqtt,
            settings.client_id,
            [f"{self._prefix}/+/cameras/+/{kind}" for kind in ("poses", "events")],
            self._journal,
            self.counts,
            session_expiry_s=settings.session_days * 86_400,
            message_limit_bytes=settings.message_limit_bytes,
        )

    def run(self, stop: threading.Event) -> None:
        """Receive and keep until `stop` is set; everything received is in the tables then, if they can be written.

        Raises:
            OutputError: the journal cannot be written.
        """
        failures: list[BaseException] = []
        received = threading.Event()

        def receive() -> None:
            try:
                self.receiver.run(stop)
            except BaseException as error:  # raised again in the caller's thread
                failures.append(error)
            finally:
                stop.set()
                received.set()

        thread = threading.Thread(target=receive, name="store-receiver")
        thread.start()
        try:
            self._fill(stop, received)
        finally:
            stop.set()
            thread.join()
            self._sink.close()
        if failures:
            raise failures[0]

    def _fill(self, stop: threading.Event, received: threading.Event) -> None:
        """Take closed segments into the tables."""
        backoff = FullJitterBackoff(0.5, 30.0)
        retained_s = float("-inf")
        failed = False
        while True:
            ending = received.is_set()
            segments = self._journal.closed()
            try:
                for segment in segments:
                    self._take(segment)
                if self._settings.retain_days is not None and time.monotonic() - retained_s > _RETAIN_S:
                    retained_s = time.monotonic()
                    if removed := self._sink.retain(self._settings.retain_days):
                        _log.info("removed %d days of tables that are older than %d days", removed, self._settings.retain_days)
            except OutputError as error:
                if not failed:
                    _log.warning("%s; messages wait in the journal", error)
                failed = True
                if ending:
                    return
                received.wait(backoff.next_s())
                continue
            if failed:
                _log.warning("the tables can be written again")
            failed = False
            backoff.reset()
            if ending:
                return
            if not segments:
                received.wait(_TURN_S)

    def _take(self, segment: Path) -> None:
        """Keep the messages of a segment, each once however often this is repeated, and remove the segment."""
        if self._rows is None:  # else those of this segment, which the tables did not take the last time
            self._rows = Rows(self._prefix, self.counts, self._settings.retain_days, Forgotten.read(self._settings.folder))
            self._rows.add(read_segment(segment))
        rows = self._rows
        if len(rows.poses) or len(rows.events):
            poses, people, events = self._sink.add(rows.poses, rows.events)
            self.counts.add("poses", poses)
            self.counts.add("people", people)
            self.counts.add("events", events)
            if repeated := len(rows.poses) + len(rows.events) - poses - events:
                self.counts.drop("duplicate", number=repeated)
        segment.unlink()
        self._rows = None
