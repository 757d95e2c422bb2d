"""The audit of commands: each command and its outcome, in a file of chained JSON lines of bounded size that a flood cannot empty."""

import hashlib
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from edgepose.config.schema import CommandsConfig
from edgepose.errors import OutputError
from edgepose.messages.command_requests import REQUESTS
from edgepose.messages.structs import CommandReplyMessage, timestamp
from edgepose.mqtt.command_inbox import Command
from edgepose.printable import printable
from edgepose.storage.chained_lines import ChainedLines, forget_lines
from edgepose.storage.span import Span

_log = logging.getLogger(__name__)

LIMIT_BYTES = 1024 * 1024
"""At this size the file is renamed to `<name>.1`, which replaces the one renamed before."""

BURST = {"ok": 200, "refused": 40}
"""Lines of a status that are written one by one, before commands of that status are merged."""

REFILL_S = {"ok": 5.0, "refused": 30.0}
"""Time after which another line of a status may be written: a flood fills less than 4 MB a day, and one of refused commands does not take
the place of executed ones."""

MERGE_S = 60.0
"""Interval of the lines that stand for merged commands."""

_PAYLOAD_LIMIT_BYTES = 512  # longer ones are recorded by length and hash
_TEXT_LIMIT = 128  # characters of what a sender says
_PROPERTIES_LIMIT = 4


class Audit:
    """The record of every command; safe for any number of threads.

    Where the file can no longer be written, commands are still executed: the log records them too.
    """

    def __init__(self, path: Path | None, key: str = "commands.audit", subject: str = "command", level: int = logging.INFO) -> None:
        """
        Args:
            path: the file; None records in the log only.
            key: of the configuration that names it, for messages.
            subject: what is recorded.
            level: of the lines in the log.

        Raises:
            OutputError: it cannot be written.
        """
        self._path = path
        self._subject, self._level = subject, level
        self._failing = False
        self._lock = threading.Lock()
        self._left = {status: float(count) for status, count in BURST.items()}  # lines that may be written now
        self._refilled_s = time.monotonic()
        self._merged: Counter[tuple[str, str]] = Counter()  # by status and command
        self._merged_since = ""
        self._next_merge_s = 0.0
        self._lines: ChainedLines | None = None
        if path is not None:
            try:
                self._lines = ChainedLines(path, LIMIT_BYTES)
            except OSError as error:
                raise OutputError(f"{key}: {path} cannot be written: {error.strerror}; expected a file in a folder that exists") from error

    @classmethod
    def configured(cls, commands: CommandsConfig) -> "Audit | None":
        """Return the audit of a configuration; None where no commands are accepted."""
        if not commands.enabled:
            return None
        return cls(Path(commands.audit) if commands.audit is not None else None)

    def note(self, command: Command, reply: CommandReplyMessage) -> None:
        """Record a command and its outcome; in a flood, many are merged into one line."""
        reason = "" if isinstance(reply.reason, msgspec.UnsetType) else printable(reply.reason, 4 * _TEXT_LIMIT)
        fields = {
            **_payload(command.payload),
            "response_topic": None if command.response_topic is None else printable(command.response_topic, _TEXT_LIMIT),
            "correlation": None if command.correlation is None else command.correlation.hex()[:_TEXT_LIMIT],
            "user_properties": [
                [printable(name, _TEXT_LIMIT), printable(value, _TEXT_LIMIT)] for name, value in command.user_properties[:_PROPERTIES_LIMIT]
            ],
        }
        kind = command.name if command.name in REQUESTS else "(unknown)"
        self.note_line(printable(command.name, 64), fields, reply.status, reason, kind)

    def note_line(self, name: str, fields: dict[str, Any], status: str, reason: str, kind: str) -> None:
        """Record a command from anywhere, as `note` does.

        Args:
            name: of the command.
            fields: what else is known of it, printable and of bounded length.
            status: `ok` or `refused`.
            reason: why it was refused; empty otherwise.
            kind: what merged lines name it by, one of few.
        """
        now_s = time.monotonic()
        with self._lock:
            if not self._takes(status, now_s):
                if not self._merged:
                    self._merged_since, self._next_merge_s = timestamp(time.time_ns()), now_s + MERGE_S
                self._merged[status, kind] += 1
                return
            _log.log(self._level, "%s %s: %s%s", self._subject, name, status, f": {reason}" if reason else "")
            self._write({"at": timestamp(time.time_ns()), self._subject: name, **fields, "status": status, "reason": reason or None})

    def turn(self, now_s: float) -> None:
        """Write the lines of merged commands where they are due; called regularly."""
        with self._lock:
            if self._merged and now_s >= self._next_merge_s:
                self._write_merged()

    def close(self) -> None:
        """Write the lines of merged commands, and close the file until the next line."""
        with self._lock:
            if self._merged:
                self._write_merged()
            if self._lines is not None:
                self._lines.close()

    def forget(self, span: Span) -> int:
        """Delete the lines of a span, and return how many.

        Raises:
            OSError: the disk fails.
        """
        with self._lock:
            self._merged.clear()
            if self._lines is None or self._path is None:
                return 0
            self._lines.close()
            return forget_lines(self._path, span.holds_line)

    def _takes(self, status: str, now_s: float) -> bool:
        """Return whether a line of its own is written for a command of a status."""
        passed_s, self._refilled_s = now_s - self._refilled_s, now_s
        for name, burst in BURST.items():
            self._left[name] = min(burst, self._left[name] + passed_s / REFILL_S[name])
        if self._left[status] < 1:
            return False
        self._left[status] -= 1
        return True

    def _write_merged(self) -> None:
        at = timestamp(time.time_ns())
        for (status, name), count in self._merged.items():
            _log.log(self._level, "%d more %ss %s since %s: %s", count, self._subject, name, self._merged_since, status)
            self._write({"at": at, "since": self._merged_since, self._subject: name, "count": count, "status": status})
        self._merged.clear()

    def _write(self, fields: dict[str, Any]) -> None:
        if self._lines is None:
            return
        try:
            self._lines.append(fields)
            self._failing = False
        except OSError as error:
            if not self._failing:
                _log.error("%ss cannot be recorded in %s: %s", self._subject, self._path, error.strerror)
            self._failing = True


def _payload(payload: bytes) -> dict[str, str | int]:
    """Return the payload where it is short text, else its length and hash."""
    if len(payload) <= _PAYLOAD_LIMIT_BYTES:
        try:
            return {"payload": printable(payload.decode(), keep="\n\r\t")}
        except UnicodeDecodeError:
            pass
    return {"payload_bytes": len(payload), "payload_sha256": hashlib.sha256(payload).hexdigest()}
