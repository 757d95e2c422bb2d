"""The ring of segments that hold the last minutes on disk; only the black box's thread uses it."""

import errno
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from edgepose.encryption.files import StateFile, state_files
from edgepose.recorder.format import KIND, SUFFIX, Record, SegmentHeader, first_line, packed

FLUSH_S = 1.0
"""Longest time that records stay in memory, seconds: what a killed process loses."""


class SegmentRing:
    """The segments of the last minutes. All methods raise OSError where the disk fails.

    Attributes:
        size_bytes: of the open segment.
    """

    def __init__(self, folder: Path, kept_s: float) -> None:
        """
        Args:
            folder: takes the segments.
            kept_s: age at which a segment is removed, seconds.
        """
        self._folder = folder
        self._kept_s = kept_s
        self._number = 0
        self._records = 0  # in the open segment
        self._ended: deque[tuple[Path, float, float]] = deque()  # file, monotonic times of its first and last record
        self._current: tuple[Path, float] | None = None
        self._file: StateFile | None = None
        self._buffer = bytearray()
        self._flushed_s = time.monotonic()
        self.size_bytes = 0

    def begin(self, header: SegmentHeader) -> None:
        """Start another segment, and remove those that are too old."""
        self.end()
        now_s = time.monotonic()
        while self._ended and self._ended[0][2] < now_s - self._kept_s:
            state_files().place(self._ended.popleft()[0]).unlink(missing_ok=True)
        self._number += 1
        path = self._folder / f"{self._number:08d}{SUFFIX}"
        # Read-only for other programs: a segment may be part of several recordings.
        self._file = state_files().open(path, KIND, mode=0o440, truncate=True)
        self._current, self.size_bytes = (path, now_s), 0
        self._records = 1
        self._buffer = bytearray(first_line() + packed(header, self._records))

    @property
    def is_open(self) -> bool:
        """Whether a segment is open."""
        return self._file is not None

    def add(self, record: Record) -> None:
        """Add a record to the open segment."""
        self._records += 1
        data = packed(record, self._records)
        self.size_bytes += len(data)
        self._buffer += data

    @property
    def current(self) -> Path | None:
        """The open segment, None where there is none."""
        return self._current[0] if self._current is not None else None

    def flush(self, *, now: bool = False) -> bool:
        """Write the added records where `FLUSH_S` have passed, or `now`; return whether it did."""
        now_s = time.monotonic()
        if not self.is_open or not self._buffer or not (now or now_s - self._flushed_s >= FLUSH_S):
            return False
        self._flush_now()
        self._flushed_s = now_s
        return True

    def abandon(self) -> None:
        """Abandon the open segment as it is, after a failure to write it."""
        self._buffer.clear()
        with suppress(OSError):
            self.end()

    def end(self) -> None:
        """Complete the open segment."""
        if self._file is None or self._current is None:
            return
        file, (path, began_s) = self._file, self._current
        try:
            self._flush_now()
        finally:
            self._file = self._current = None
            self._buffer = bytearray()
            file.close()
            if _exists(path):
                self._ended.append((path, began_s, time.monotonic()))

    def segments(self) -> list[Path]:
        """Return the segments on disk, oldest first."""
        current = [self._current[0]] if self._current is not None else []
        return [path for path in (*(path for path, _, _ in self._ended), *current) if _exists(path)]

    def length_s(self) -> float:
        """Return the seconds that the segments on disk span."""
        beginnings = [began_s for path, began_s, _ in self._ended if _exists(path)]
        if self._current is not None:
            beginnings.append(self._current[1])
        return time.monotonic() - beginnings[0] if beginnings else 0.0

    def _flush_now(self) -> None:
        assert self._file is not None
        if not os.fstat(self._file.descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the folder or the segment was deleted")
        if self._buffer:
            self._file.append(self._buffer)
            self._buffer.clear()


def _exists(path: Path) -> bool:
    return state_files().place(path).exists()
