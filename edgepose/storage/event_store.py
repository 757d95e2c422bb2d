"""The event store: messages that must arrive stay on disk until the broker has them, and survive a restart, SIGKILL and a power cut.

The queue in memory leads; the file follows in a thread of its own, so that publishing never waits for a disk. One synced write holds
everything that has arrived since the last one: one event a second does not wear out a card. What cannot be written stays in memory and is
tried again. Of a damaged file, every message that verifies is sent, and the others are counted.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from edgepose.encryption.files import state_files
from edgepose.storage.event_file import EventFile

_log = logging.getLogger(__name__)

RETRY_S = 3.0
"""Time between two attempts to use a file that cannot be written."""

LINGER_S = 1.0
"""Longest wait of deletions for others: a lost deletion only causes a duplicate, which the `id` of the event reveals."""


class StorableMessage(Protocol):
    """A message that a store keeps, identified by the object."""

    @property
    def topic(self) -> str:
        """Full name of the topic."""

    @property
    def payload(self) -> bytes:
        """The encoded message."""


_Message = TypeVar("_Message", bound=StorableMessage)


class EventStore(Generic[_Message]):
    """A file that follows a queue: `keep` what enters it, `forget` what has left it; safe for any number of threads.

    Attributes:
        loaded: set once the messages of earlier runs are restored, or the file could not be read.
        lost: messages of earlier runs that the file no longer gives back; None where nobody knows how many.
    """

    def __init__(
        self, path: Path, limit: int, found: Callable[[list[_Message], int], None], make: Callable[[str, bytes], _Message]
    ) -> None:
        """
        Args:
            path: of the file; its folder must exist. One process at a time: a second one finds it locked, logs that, and works without.
            limit: most messages that are restored from an earlier run; the oldest are dropped first.
            found: receives the messages of earlier runs, oldest first, and how many were dropped, in the store's thread.
            make: makes a message of topic and payload.
        """
        self._path = path
        self._limit = limit
        self._found = found
        self._make = make
        self._changed = threading.Condition()
        self._rows: dict[_Message, int] = {}  # on disk, with their numbers
        self._new: dict[_Message, None] = {}  # not yet; oldest first
        self._batch: dict[_Message, None] = {}  # being written
        self._gone: list[int] = []  # numbers of settled ones
        self._failure: str | None = None
        self._closing = False
        self._purges: list[threading.Event] = []  # set when the file is written anew
        self._file: EventFile | None = None
        self.loaded = threading.Event()
        self.lost: int | None = 0
        self._thread = threading.Thread(target=self._run, name="event-store", daemon=True)

    @property
    def failure(self) -> str | None:
        """The reason why messages are in memory only, in a few words, or None."""
        return self._failure

    def start(self) -> None:
        """Start the thread; it writes what was kept before."""
        self._thread.start()

    def keep(self, message: _Message) -> bool:
        """Write a message soon; return immediately, False after `close`."""
        with self._changed:
            if not self._closing:
                self._new[message] = None
                self._changed.notify()
            return not self._closing

    def forget(self, message: _Message) -> None:
        """Delete a message soon, if it was kept; return immediately."""
        with self._changed:
            self._new.pop(message, None)
            self._batch.pop(message, None)
            row = self._rows.pop(message, None)
            if row is not None:
                self._gone.append(row)
                self._changed.notify()

    def purge(self, unwanted: Callable[[bytes], bool], within_s: float, *, always: bool = True) -> int | None:
        """Delete messages from memory and from the file, which is written anew; return how many, None where that takes too long.

        Args:
            unwanted: whether a payload is deleted.
            within_s: longest wait for the disk.
            always: whether the file is written anew where no message is deleted: it still holds settled ones.
        """
        done = threading.Event()
        with self._changed:
            places: tuple[dict[_Message, Any], ...] = (self._new, self._batch, self._rows)
            gone = {message for place in places for message in place if unwanted(message.payload)}
            for place in places:
                for message in gone & place.keys():
                    del place[message]
            if not gone and not always:
                return 0
            self._purges.append(done)
            self._changed.notify()
        return len(gone) if done.wait(within_s) else None

    def holds(self, message: _Message) -> bool:
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
                if self._file is None:
                    self._open()
                    self.loaded.set()
                last = self._await_work()
                self._write()
                self._purge()
                if self._failure is not None:
                    _log.info("event store %s: works again", self._path)
                    self._failure = None
            except Exception as error:  # whatever a file may hold must not end the thread
                last = self._closing
                self.loaded.set()
                self._recover(error)
            if last:
                self._disconnect()
                return

    def _await_work(self) -> bool:
        """Wait for something to write; return whether it is the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._new or self._gone or self._purges or self._closing or self._failure)
            if not self._new and not self._purges and not self._failure:
                self._changed.wait_for(lambda: self._new or self._purges or self._closing, LINGER_S)
            return self._closing

    def _open(self) -> None:
        """Open the file and restore what it holds; OSError where that fails."""
        file = self._file = EventFile(self._path)
        held = file.recovered
        with self._changed:
            known = set(self._rows.values()) | set(self._gone)
            is_first = not known  # later, only this process has written to it
        if held.damaged:
            lost = "an unknown number of" if held.lost is None else str(held.lost)
            copy = f"; a copy is in {file.set_aside}" if file.set_aside is not None else ""
            _log.error(
                "event store %s is damaged: %d messages can be read and are sent, and %s are lost%s",
                *(self._path, len(held.messages), lost, copy),
            )
        if is_first:
            self.lost = None if held.lost is None or self.lost is None else self.lost + held.lost
            self._take_over(held.messages)
        elif held.damaged or not known <= set(held.messages) | set(self._gone):
            self._write_again()

    def _take_over(self, held: dict[int, tuple[str, bytes]]) -> None:
        numbers = list(held)
        surplus, numbers = numbers[: -self._limit], numbers[-self._limit :]
        messages = {self._make(*held[number]): number for number in numbers}
        with self._changed:
            self._rows = {**messages, **self._rows}
            self._gone.extend(surplus)
        if numbers:
            what = "1 message that is" if len(numbers) == 1 else f"{len(numbers)} messages that are"
            _log.info("event store %s holds %s still to be sent", self._path, what)
        if numbers or surplus or self.lost != 0:
            self._found(list(messages), len(surplus))

    def _write_again(self) -> None:
        """Write all that is kept into a new file."""
        assert self._file is not None
        with self._changed:
            messages = list(self._rows)
        numbers = self._file.rewrite([(message.topic, message.payload) for message in messages])
        with self._changed:
            self._gone = []
            for message, number in zip(messages, numbers, strict=True):
                if message in self._rows:
                    self._rows[message] = number
                else:
                    self._gone.append(number)  # settled in the meantime

    def _write(self) -> None:
        assert self._file is not None
        with self._changed:
            self._batch, self._new = self._new, {}
            gone, self._gone = self._gone, []
            batch = list(self._batch)
        try:
            numbers = self._file.append([(message.topic, message.payload) for message in batch], gone)
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
            live_bytes = sum(len(message.payload) for message in self._rows)
        if self._file.is_wasteful(live_bytes):
            self._write_again()

    def _purge(self) -> None:
        with self._changed:
            purges, self._purges = self._purges, []
        if purges:
            try:
                self._write_again()
                state_files().place(self._path.with_name(self._path.name + ".damaged")).unlink(missing_ok=True)
            except BaseException:
                with self._changed:
                    self._purges = purges + self._purges
                raise
        for done in purges:
            done.set()

    def _recover(self, error: Exception) -> None:
        """Log the failure once, and close the file, to be opened again."""
        self._disconnect()
        if isinstance(error, FileNotFoundError):
            with self._changed:  # all that was on disk is in memory as well
                self._new = {**dict.fromkeys(self._rows), **self._new}
                self._rows, self._gone = {}, []
        reason = "another process has it open" if isinstance(error, BlockingIOError) else _words(error)
        if reason != self._failure:
            _log.warning("event store %s: %s; messages are kept in memory until it works", self._path, reason)
            self._failure = reason
        with self._changed:
            self._changed.wait_for(lambda: self._closing, RETRY_S)

    def _disconnect(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _words(error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"unexpected {type(error).__name__}: {error}"
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
