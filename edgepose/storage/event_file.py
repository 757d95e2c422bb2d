"""The file of the event store: messages, and which of them are settled, appended as records and synced; damage costs only what it hits."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgepose.encryption.files import StateFile, copy_content, state_files
from edgepose.storage.old_events import SQLITE_HEADER, read_old_events
from edgepose.storage.records import Damage, packed_record, scan_records

_FIRST_LINE = b"edgepose events 2\n"
_KIND = "events"
_MESSAGE, _SETTLED = 1, 2  # kinds of records
_DEAD_LIMIT_BYTES = 256 * 1024

_Message = tuple[str, bytes]

_encode = msgspec.msgpack.encode
_message_decoder = msgspec.msgpack.Decoder(_Message)
_settled_decoder = msgspec.msgpack.Decoder(tuple[int, list[int]])


class Recovered(msgspec.Struct, frozen=True):
    """What a file held when it was opened.

    Attributes:
        messages: topic and payload of each message that was not settled and verifies, by number, oldest first.
        lost: messages that no longer verify; None where the newest are gone, so that nobody knows how many.
        damaged: whether anything was damaged.
    """

    messages: dict[int, _Message]
    lost: int | None = 0
    damaged: bool = False


class EventFile:
    """An open event file, which no other process can open. Methods raise OSError where the disk fails.

    Attributes:
        recovered: what it held when it was opened.
        set_aside: name of the copy of a damaged file, None where it was not damaged.
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file; its folder must exist. A damaged file is set aside, and what verifies is written into a new one.

        Raises:
            BlockingIOError: another process has it open.
        """
        self._path = path
        self.set_aside: str | None = None
        self._file = _open_locked(path)
        try:
            data = self._file.read()
            is_old = data.startswith(SQLITE_HEADER)
            self.recovered = _of_old(read_old_events(path)) if is_old else recovered(data, damaged=bool(self._file.damage))
            self._latest = max(self.recovered.messages, default=0)
            if self.recovered.damaged:
                aside = path.with_name(path.name + ".damaged")  # only one is kept: there may be many, and the disk is small
                with contextlib.suppress(OSError):  # a full disk must not keep what verifies from being sent
                    copy_content(state_files().place(path), state_files().place(aside))
                    self.set_aside = aside.name
            if is_old or self.recovered.damaged or not data:
                messages = list(self.recovered.messages.values())
                self.rewrite(messages)
                self.recovered = Recovered(dict(enumerate(messages, 1)), self.recovered.lost, self.recovered.damaged)
                if is_old:
                    for suffix in ("-wal", "-shm"):
                        path.with_name(path.name + suffix).unlink(missing_ok=True)
        except BaseException:
            self.close()
            raise

    def append(self, messages: Sequence[_Message], settled: Sequence[int]) -> list[int]:
        """Write messages, and the numbers of settled ones, and sync; return the numbers of the messages."""
        self._refuse_moved()
        numbers = list(range(self._latest + 1, self._latest + 1 + len(messages)))
        latest = self._latest + len(messages)
        data = b"".join(packed_record(_MESSAGE, number, _encode(message)) for number, message in zip(numbers, messages, strict=True))
        if settled:
            data += packed_record(_SETTLED, latest, _encode((latest, list(settled))))
        self._file.append(data, sync=True)
        self._latest = latest
        return numbers

    def is_wasteful(self, live_bytes: int) -> bool:
        """Return whether most of the file is settled.

        Args:
            live_bytes: payloads that are not settled.
        """
        return self._file.size > max(_DEAD_LIMIT_BYTES, 3 * live_bytes)

    def rewrite(self, messages: Sequence[_Message]) -> list[int]:
        """Replace the file by one with these messages only, complete or not at all; return their numbers."""
        numbers = list(range(1, len(messages) + 1))
        records = (packed_record(_MESSAGE, number, _encode(message)) for number, message in zip(numbers, messages, strict=True))
        data = _FIRST_LINE + b"".join(records)
        files = state_files()
        name = self._path.with_name(self._path.name + ".new")
        temporary = files.place(name)
        file = files.open(name, _KIND, truncate=True)
        try:
            file.append(data)
            os.fsync(file.descriptor)
            fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(temporary, files.place(self._path))
            _sync_folder(self._path.parent)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        before, self._file = self._file, file
        before.close()
        self._latest = len(messages)
        return numbers

    def close(self) -> None:
        """Release the file."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _refuse_moved(self) -> None:
        """Raise FileNotFoundError where the path no longer names this file."""
        if not _is_file(self._file.descriptor, self._path):
            raise FileNotFoundError(2, "the file was removed")


def forget_events(path: Path, unwanted: Callable[[bytes], bool]) -> int:
    """Delete messages from an event file that no process has open, and its damaged copy; return how many.

    Args:
        path: of the file.
        unwanted: whether a payload is deleted.

    Raises:
        BlockingIOError: another process has it open.
        OSError: the disk fails.
    """
    state_files().place(path.with_name(path.name + ".damaged")).unlink(missing_ok=True)
    if not state_files().place(path).exists():
        return 0
    file = EventFile(path)
    try:
        held = list(file.recovered.messages.values())
        kept = [message for message in held if not unwanted(message[1])]
        file.rewrite(kept)  # settled messages are still in the file, too
        return len(held) - len(kept)
    finally:
        file.close()
        state_files().place(path.with_name(path.name + ".damaged")).unlink(missing_ok=True)


def recovered(data: bytes, *, damaged: bool = False) -> Recovered:
    """Return what the content of an event file holds, whatever happened to it.

    Args:
        data: the content.
        damaged: whether damage is known already.
    """
    messages: dict[int, _Message] = {}
    settled: set[int] = set()
    highest = 0
    damaged = damaged or (bool(data) and not data.startswith(_FIRST_LINE))
    is_newest_gone = False
    for found in scan_records(data, len(_FIRST_LINE)):
        if isinstance(found, Damage):
            damaged = True
            if found.number is None:
                is_newest_gone = True  # until a later record says how many there were
            elif found.kind == _MESSAGE:
                highest, is_newest_gone = max(highest, found.number), False
            continue
        try:
            if found.kind == _MESSAGE:
                messages[found.number] = _message_decoder.decode(found.payload)
                highest, is_newest_gone = max(highest, found.number), False
            elif found.kind == _SETTLED:
                latest, numbers = _settled_decoder.decode(found.payload)
                settled.update(numbers)
                highest, is_newest_gone = max(highest, latest), False
        except (msgspec.MsgspecError, UnicodeDecodeError):  # the tag holds by chance
            damaged = True
    waiting = {number: message for number, message in sorted(messages.items()) if number not in settled}
    lost = len(set(range(1, highest + 1)) - settled - set(messages)) if highest <= len(data) else 0
    return Recovered(waiting, None if is_newest_gone else lost, damaged)


def _of_old(messages: list[_Message] | None) -> Recovered:
    return Recovered({}, None, damaged=True) if messages is None else Recovered(dict(enumerate(messages, 1)))


def _open_locked(path: Path) -> StateFile:
    while True:
        file = state_files().open(path, _KIND)
        try:
            fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(file.descriptor, path):  # the process before may have replaced it meanwhile
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(state_files().place(path)))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
