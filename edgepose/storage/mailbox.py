"""Requests to delete a span, left in the folder of the state for the process that works with its files."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edgepose.encryption.files import state_files, write_whole
from edgepose.storage.span import Span

_REQUEST, _ANSWER = "forget.request", "forget.answer"
_KIND = "forget"
_TURN_S = 0.05

Counts = dict[str, int | None]
"""What was deleted, by kind; None where the disk did not do it in time."""


class Mailbox:
    """The mailbox of one process; the folder's owner and root alone can put something in."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: that exists, or will.
        """
        self._folder = folder
        self._place = state_files().place(folder / _REQUEST)

    def ask(self, span: Span, taken_within_s: float, done_within_s: float) -> Counts | None:
        """Ask a running process to delete a span, and return its answer; None where no process takes the request.

        Raises:
            TimeoutError: the process does not answer.
            OSError: the folder cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            state_files().place(self._folder / _ANSWER).unlink()
        write_whole(self._folder / _REQUEST, msgspec.json.encode(span), _KIND, owner_of=self._folder)
        until_s = time.monotonic() + taken_within_s
        while self._place.exists() and time.monotonic() < until_s:
            time.sleep(_TURN_S)
        with contextlib.suppress(FileNotFoundError):
            self._place.unlink()  # whether this succeeds decides who deletes
            return None
        until_s = time.monotonic() + done_within_s
        answer = self._folder / _ANSWER
        while not state_files().place(answer).exists():
            if time.monotonic() > until_s:
                raise TimeoutError("no answer")
            time.sleep(_TURN_S)
        counts = msgspec.json.decode(state_files().load(answer, _KIND), type=Counts)
        state_files().place(answer).unlink()
        return counts

    def taken(self) -> Span | None:
        """Return the span of a request, which is then no other process's; None where there is none."""
        if not self._place.exists():
            return None
        try:
            span = msgspec.json.decode(state_files().load(self._folder / _REQUEST, _KIND), type=Span)
            self._place.unlink()
        except (OSError, msgspec.MsgspecError):
            return None
        return span

    def answer(self, counts: Mapping[str, int | None]) -> None:
        """Say what was deleted."""
        write_whole(self._folder / _ANSWER, msgspec.json.encode(counts), _KIND, owner_of=self._folder)
