"""The event store: messages that must arrive stay on disk until the broker has them, and survive a restart, SIGKILL and a power cut.

The queue in memory leads; the file follows in a thread of its own, so that publishing never waits for a disk. One transaction writes
everything that has arrived since the last one, and is synced (`synchronous=FULL`): one event a second does not wear out a card. What cannot
be written stays in memory and is tried again; a damaged file is set aside.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

from edgepose.mqtt.outbox import Outgoing

_log = logging.getLogger(__name__)

RETRY_S = 3.0
"""Time between two attempts to use a file that cannot be written."""

LINGER_S = 1.0
"""Longest wait of deletions for others: a lost deletion only causes a duplicate, which the `id` of the event reveals."""

APPLICATION_ID = 0x65647073  # "edps", so that the database of another program is recognized
VERSION = 1


class EventStore:
    """A file that follows a queue: `keep` what enters it, `forget` what has left it; safe for any number of threads.

    Args:
        path: of the database; its folder must exist. One process at a time: a second one finds it locked, logs that, and works without.
        limit: most messages that are restored from an earlier run; the oldest are dropped first.
        found: receives the messages of earlier runs, oldest first, and how many were dropped, in the store's thread.

    Attributes:
        loaded: set once the messages of earlier runs are restored, or the file could not be read.
    """

    def __init__(self, path: Path, limit: int, found: Callable[[list[Outgoing], int], None]) -> None:
        self._path = path
        self._limit = limit
        self._found = found
        self._changed = threading.Condition()
        self._rows: dict[Outgoing, int] = {}  # on disk
        self._new: dict[Outgoing, None] = {}  # not yet; oldest first
        self._batch: dict[Outgoing, None] = {}  # being written
        self._gone: list[int] = []  # rows to delete
        self._failure: str | None = None
        self._closing = False
        self._database: sqlite3.Connection | None = None
        self.loaded = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-store", daemon=True)

    @property
    def failure(self) -> str | None:
        """The reason why messages are in memory only, in a few words, or None."""
        return self._failure

    def start(self) -> None:
        """Start the thread; it writes what was kept before."""
        self._thread.start()

    def keep(self, message: Outgoing) -> bool:
        """Write a message soon; return immediately, False after `close`."""
        with self._changed:
            if not self._closing:
                self._new[message] = None
                self._changed.notify()
            return not self._closing

    def forget(self, message: Outgoing) -> None:
        """Delete a message soon, if it was kept; return immediately."""
        with self._changed:
            self._new.pop(message, None)
            self._batch.pop(message, None)
            row = self._rows.pop(message, None)
            if row is not None:
                self._gone.append(row)
                self._changed.notify()

    def holds(self, message: Outgoing) -> bool:
        """Return whether a message is on disk."""
        with self._changed:
            return message in self._rows

    def close(self, within_s: float) -> None:
        """Write what is left and release the file; do not wait for a slow disk."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            try:
                if self._database is None:
                    self._open()
                    self.loaded.set()
                last = self._await_work()
                self._write()
                if self._failure is not None:
                    _log.info("event store %s: works again", self._path)
                    self._failure = None
            except (sqlite3.Error, OSError) as error:
                last = self._closing
                self.loaded.set()
                self._recover(error)
            if last:
                self._disconnect()
                return

    def _await_work(self) -> bool:
        """Wait for something to write; return whether it is the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._gone or self._closing or self._failure)
            if not self._new and not self._failure:
                self._changed.wait_for(lambda: self._new or self._closing, LINGER_S)
            return self._closing

    def _open(self) -> None:
        """Open the file and restore what it holds; sqlite3.Error or OSError where that fails."""
        database = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")  # until closed or killed
            database.execute("BEGIN IMMEDIATE")
            (owner,), (version,) = database.execute("PRAGMA application_id").fetchone(), database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (owner, version) != (APPLICATION_ID, VERSION):
                raise OSError("it is a database of another program or version; expected a file of edgepose")
            if not tables:
                database.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL)")
                database.execute(f"PRAGMA application_id={APPLICATION_ID}")
                database.execute(f"PRAGMA user_version={VERSION}")
            database.execute("COMMIT")
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=1048576", "temp_store=MEMORY"):
                database.execute(f"PRAGMA {pragma}").fetchall()
            ((result,),) = database.execute("PRAGMA quick_check(1)").fetchall()
            if result != "ok":
                raise sqlite3.DatabaseError(result)
            with self._changed:
                known = set(self._rows.values()) | set(self._gone)
            rows = [row for row in database.execute("SELECT number, topic, payload FROM message ORDER BY number") if row[0] not in known]
        except BaseException:
            database.close()
            raise
        self._database = database
        self._take_over(rows)

    def _take_over(self, rows: list[tuple[int, str, bytes]]) -> None:
        surplus, rows = rows[: -self._limit], rows[-self._limit :]
        messages = {Outgoing(topic, bytes(payload), qos=1): number for number, topic, payload in rows}
        with self._changed:
            self._rows = {**messages, **self._rows}
            self._gone.extend(number for number, *_ in surplus)
        if rows:
            what = "1 message that is" if len(rows) == 1 else f"{len(rows)} messages that are"
            _log.info("event store %s holds %s still to be sent", self._path, what)
            self._found(list(messages), len(surplus))

    def _write(self) -> None:
        with self._changed:
            self._batch, self._new = self._new, {}
            gone, self._gone = self._gone, []
            batch = list(self._batch)
        try:
            numbers = self._transact(batch, gone)
        except BaseException:
            with self._changed:
                self._new = {**self._batch, **self._new}
                self._gone = gone + self._gone
                self._batch = {}
            raise
        with self._changed:
            for message, number in zip(batch, numbers, strict=True):
                if message in self._batch:
                    self._rows[message] = number
                else:
                    self._gone.append(number)  # acknowledged in the meantime
            self._batch = {}

    def _transact(self, batch: list[Outgoing], gone: list[int]) -> list[int]:
        assert self._database is not None
        if not self._path.exists():
            raise FileNotFoundError("the file was removed")
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany("DELETE FROM message WHERE number = ?", ((number,) for number in gone))
            insert = "INSERT INTO message (topic, payload) VALUES (?, ?)"
            numbers = [self._database.execute(insert, (message.topic, message.payload)).lastrowid or 0 for message in batch]
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
                self._database.execute("ROLLBACK")
            raise
        return numbers

    def _recover(self, error: Exception) -> None:
        """Log the failure once, and close the file, to be opened again; a damaged one is set aside."""
        self._disconnect()
        damaged = type(error) is sqlite3.DatabaseError  # a full disk and a lock are subclasses
        if damaged or isinstance(error, FileNotFoundError):
            with self._changed:  # all that was on disk is in memory as well
                self._new = {**dict.fromkeys(self._rows), **self._new}
                self._rows, self._gone = {}, []
        if damaged:
            error = self._set_aside(error)
        reason = "another process has it open" if "locked" in str(error) else str(error)
        if reason != self._failure:
            _log.warning("event store %s: %s; messages are kept in memory until it works", self._path, reason)
            self._failure = reason
        with self._changed:
            self._changed.wait_for(lambda: self._closing, RETRY_S)

    def _set_aside(self, damage: Exception) -> Exception:
        aside = self._path.with_name(self._path.name + ".damaged")
        try:
            self._path.replace(aside)  # only one is kept: there may be many, and the disk is small
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError as error:
            return error
        return OSError(f"{damage}; set aside as {aside.name}, and a new one was created")

    def _disconnect(self) -> None:
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
