"""The journal of a store: every message is on the disk before its broker hears that it arrived.

A journal is a folder of segments. Messages are appended to the newest one; a closed segment waits until its messages are in the tables, and
is then removed. What was not synced when the process was killed has not been acknowledged, so its broker delivers it again.
"""

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgepose.errors import OutputError
from edgepose.storage.records import Damage, packed_record, scan_records

_KIND = 1
_HEAD = struct.Struct("<qH")  # time of arrival in us, length of the topic
_SUFFIX = ".segment"


class Received(NamedTuple):
    """A message as it arrived.

    Attributes:
        at_us: time of arrival, microseconds since the Unix epoch (UTC).
    """

    topic: bytes
    payload: bytes
    at_us: int


class Journal:
    """A journal that one thread appends to, while another reads and removes closed segments.

    Args:
        folder: made where it is missing.
        segment_bytes: length after which a segment is closed.
        segment_s: age after which a segment is closed, seconds.
        limit_bytes: total length above which the journal is full.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 4 << 20, segment_s: float = 10.0, limit_bytes: int = 4 << 30) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._limit_bytes = limit_bytes
        self._pending: list[bytes] = []
        self._number = 0  # of the last record in the segment
        self._file: int | None = None
        self._path = folder
        self._written = 0
        self._opened_s = 0.0
        with _failures_named(folder):
            folder.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal()]
        self._next = max(numbers, default=0) + 1

    def append(self, topic: bytes, payload: bytes, at_us: int) -> None:
        """Add a message, which `sync` writes."""
        self._number += 1
        self._pending.append(packed_record(_KIND, self._number, _HEAD.pack(at_us, len(topic)) + topic + payload))

    def sync(self) -> None:
        """Return when all messages are on the disk; close the segment where it is long or old.

        Raises:
            OutputError: the disk is full, or fails; the messages stay pending.
        """
        with _failures_named(self._folder):
            if self._pending:
                if self._file is None:
                    self._open()
                assert self._file is not None
                data = b"".join(self._pending)
                os.lseek(self._file, self._written, os.SEEK_SET)  # over what a failure left half written
                view = memoryview(data)
                while view:
                    view = view[os.write(self._file, view) :]
                os.fdatasync(self._file)
                self._written += len(data)
                self._pending.clear()
            if self._file is not None and (self._written >= self._segment_bytes or time.monotonic() - self._opened_s >= self._segment_s):
                self.rotate()

    def rotate(self) -> None:
        """Close the segment that is written, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file, self._number, self._written = None, 0, 0

    def closed(self) -> list[Path]:
        """Return the closed segments, oldest first."""
        written = self._path if self._file is not None else None
        return sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if path != written)

    def full(self) -> bool:
        """Return whether no more messages should be received."""
        return sum(path.stat().st_size for path in self.closed()) > self._limit_bytes

    def _open(self) -> None:
        self._path = self._folder / f"{self._next:012d}{_SUFFIX}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._next += 1
        self._opened_s = time.monotonic()
        sync_folder(self._folder)


def read_segment(path: Path) -> Iterator[Received | Damage]:
    """Yield the messages of a segment and its damaged places. What a kill left incomplete at its end is neither: nobody acknowledged it."""
    for record in scan_records(path.read_bytes()):
        if isinstance(record, Damage):
            if not record.at_end:
                yield record
            continue
        at_us, length = _HEAD.unpack_from(record.payload)
        end = _HEAD.size + length
        yield Received(record.payload[_HEAD.size : end], record.payload[end:], at_us)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _failures_named:  # noqa: N801 (a context manager, used as a function)
    """A context in which an error of the system becomes an OutputError that names a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise OutputError(f"{self._folder} cannot be written: {error.strerror}; expected a folder on a disk with room") from error
