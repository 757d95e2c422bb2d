"""The thread that writes files; a full, slow or missing disk costs frames in files, and nothing else."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from edgepose.errors import EdgeposeError, OutputError
from edgepose.frame import Frame
from edgepose.messages.structs import PosesMessage
from edgepose.person import Person
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import TileLook

_log = logging.getLogger(__name__)

_TURN_S = 0.2
_WAITING_LIMIT = 4  # records that wait for the disk; they hold images, so the limit bounds memory
_STUCK_AFTER_S = 30.0
_CLOSING_S = 120.0  # the index of a long video
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 60.0


class Sink(Protocol):
    """A receiver of frames: a file, a video, a folder."""

    def write(self, frame: Frame, people: Sequence[Person], message: PosesMessage, looks: Sequence[TileLook] = ()) -> None:
        """Write one frame, and where it is drawn the tiles too; OutputError where that fails."""
        ...

    def close(self) -> None:
        """Complete what was written."""
        ...


_Record = tuple[Frame, list[Person], PosesMessage, Sequence[TileLook]]


class FileWriter(SupervisedThread):
    """A thread that writes frames to all files, one after the other.

    Where a file fails, all are closed; with `reopen` they are opened again after waits that grow to a minute, and miss the frames in
    between.

    Attributes:
        error: the last error of the files, None while they are written.
    """

    def __init__(self, sinks: Sequence[Sink], metrics: Metrics, reopen: Callable[[], list[Sink]] | None = None) -> None:
        """
        Args:
            sinks: open.
            metrics: counts the frames that are lost.
            reopen: opens the sinks again; None where a failure is final.
        """
        super().__init__("writer", _STUCK_AFTER_S, restart=reopen is not None)
        self._sinks = sinks
        self._metrics = metrics
        self._reopen = reopen
        self._waiting: queue.Queue[_Record | None] = queue.Queue(maxsize=_WAITING_LIMIT)
        self.error: OutputError | None = None

    def take(self, frame: Frame, people: list[Person], message: PosesMessage, looks: Sequence[TileLook] = (), *, live: bool) -> None:
        """Queue one frame; blocks only for frames of files, and only until there is room."""
        while self.is_alive() and (self.error is None or not live):
            try:
                self._waiting.put((frame, people, message, looks), timeout=0 if live else _TURN_S)
            except queue.Full:
                if not live:
                    continue
                self._metrics.dropped(frame.camera, "writer_busy")
            return
        self._metrics.dropped(frame.camera, "writer_failed")

    def close(self, timeout_s: float) -> None:
        """Complete the files; the log counts frames that could not be written in time."""
        if not self.is_alive():
            return
        deadline_s = time.monotonic() + timeout_s
        with suppress(queue.Full):  # logged below
            self._waiting.put(None, timeout=timeout_s)
        if self.error is not None:
            self.ending.set()
        self.join(max(0.0, deadline_s - time.monotonic()))
        if self.is_alive():
            self.ending.set()
            _log.error(
                "files are not complete: writing them took longer than %.1f s, %d frames are missing", timeout_s, self._waiting.qsize()
            )

    def work(self) -> None:
        """Write until the end is queued."""
        backoff = FullJitterBackoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        while not self._write_all():
            if self._reopen is None:
                return
            while not self._opened_again(self._reopen, backoff.next_s()):
                if self.ending.is_set():
                    return

    def _write_all(self) -> bool:
        """Return whether everything was written; after a failure the files are closed."""
        try:
            while (record := self._next()) is not None:
                for sink in self._sinks:
                    sink.write(*record)
        except OutputError as error:
            self._fail(error)
        except BrokenPipeError:
            self._fail(OutputError("a pipe cannot be written: its reader has closed it; expected the reader to keep it open"))
        except Exception as error:
            self._fail(OutputError(f"files: unexpected {type(error).__name__}: {error}"))
        self.heartbeat.beat(_CLOSING_S)
        for sink in self._sinks:
            try:
                sink.close()
            except OutputError as error:
                self._fail(error)
        return self.error is None

    def _next(self) -> _Record | None:
        while True:
            self.heartbeat.beat()
            try:
                return self._waiting.get(timeout=_TURN_S)
            except queue.Empty:
                if self.ending.is_set():
                    return None

    def _opened_again(self, reopen: Callable[[], list[Sink]], wait_s: float) -> bool:
        self.heartbeat.beat(wait_s + _STUCK_AFTER_S)
        if self.ending.wait(wait_s):
            return False
        try:
            self._sinks = reopen()
        except EdgeposeError as error:
            _log.debug("files cannot be reopened: %s", error)
            return False
        _log.warning("files are written again")
        self.restarts += 1
        self.error = None
        return True

    def _fail(self, error: OutputError) -> None:
        if self.error is None:
            _log.error("%s; nothing more is written to files%s", error, "" if self._reopen is None else " until they can be reopened")
            self.error = error
