"""A writer of log lines in a thread of its own: a terminal or pipe that nobody reads delays no other work.

The write to a full pipe waits until somebody reads it, which may be never. Callers therefore only hand their lines over. What does not fit
into the bound is dropped and counted, and the count is a line of its own, in the place of the lines that are missing.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TextIO

LINES_LIMIT = 2000
"""Lines that wait; a burst of debug lines of a second fits."""

LIMIT_BYTES = 1024 * 1024
"""Bytes that wait, of all lines together."""

_ATOMIC_BYTES = 4096  # PIPE_BUF: writes up to this size are not mixed with those of other processes
_IDLE_S = 5.0  # after this long without a line, the thread ends; the next line starts another
_STALLED_S = 0.3  # without progress for this long, the end of the program does not wait any more


class LineWriter:
    """A bounded queue of lines, and the thread that writes them to a stream.

    Args:
        stream: where lines go; its descriptor is written to directly, since a lock of the stream would be held while a write waits.
        told: turns the number of dropped lines into the line that reports it.

    Attributes:
        stream: as above.
        dropped: lines that did not fit, since the start.
    """

    def __init__(self, stream: TextIO, told: Callable[[int], str]) -> None:
        self.stream = stream
        self._told = told
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = self._written = self._reported = self.dropped = 0
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._begin_anew)

    def write(self, line: str) -> None:
        """Hand a line over, without its end; never waits."""
        data = _encoded(line)
        with self._changed:
            if len(self._waiting) >= LINES_LIMIT or self._waiting_bytes + len(data) > LIMIT_BYTES:
                self.dropped += 1
                return
            self._tell_dropped()
            self._append(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, within_s: float) -> bool:
        """Wait until all lines are written; return False where the reader takes none for a moment, or not all in time."""
        ends_s = time.monotonic() + within_s
        with self._changed:
            while self._waiting:
                written = self._written
                if not self._changed.wait_for(partial(self._has_written_since, written), min(_STALLED_S, ends_s - time.monotonic())):
                    return False
        return True

    def _begin_anew(self) -> None:
        """Start with nothing in the child of a fork, which has neither the thread nor, maybe, a free lock."""
        self._changed = threading.Condition()
        self._waiting = deque()
        self._waiting_bytes = self._written = self._reported = self.dropped = 0
        self._thread = None

    def _has_written_since(self, written: int) -> bool:
        return self._written != written

    def _append(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def _tell_dropped(self) -> None:
        if self.dropped != self._reported:
            self._append(_encoded(self._told(self.dropped - self._reported)))
            self._reported = self.dropped

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._waiting), _IDLE_S):
                    self._thread = None
                    return
                data = self._waiting[0]  # it leaves the queue when it is written: `flush` waits for it
            with suppress(OSError, ValueError):  # the reader is gone, or the stream closed: nobody is left to tell
                self._write(data)
            with self._changed:
                self._waiting.popleft()
                self._waiting_bytes -= len(data)
                self._written += 1
                if not self._waiting:
                    self._tell_dropped()
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError, AttributeError):  # a stream in memory
            self.stream.write(data.decode())
            self.stream.flush()
            return
        while data:
            data = data[os.write(descriptor, data[:_ATOMIC_BYTES]) :]


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode("utf-8", "backslashreplace")
