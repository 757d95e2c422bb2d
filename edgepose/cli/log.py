"""Log lines on standard error: text for people, priorities for the journal, or JSON for a log collector.

Text of others in a message (names, answers, paths) is shown with its control characters as escapes: it forges no line and steers no
terminal.
"""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

import msgspec

from edgepose.capture.redact import scrub
from edgepose.config.load import service_variables
from edgepose.printable import printable
from edgepose.telemetry.line_writer import LineWriter

_LINE = "%(asctime)s %(levelname)-7s %(message)s"
_TIME = "%H:%M:%S"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_FLUSH_S = 1.0  # how long the end of the program waits for the last lines
_MESSAGE_LIMIT = 8192  # characters
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr(level: str, form: Literal["text", "json"] = "text") -> None:
    """Write log lines of `level` and above to standard error; with the journal's priorities where it leads to the journal."""
    root = logging.getLogger("edgepose")
    if root.handlers:  # --debug was handled first and shows more
        return
    to_journal = is_journal(sys.stderr, service_variables())
    formatter = (
        JsonFormatter() if form == "json" else TextFormatter(None if to_journal else _LINE, _TIME)
    )  # the journal adds the time itself
    root.addHandler(_QueuedHandler(sys.stderr, PriorityFormatter(formatter) if to_journal else formatter))
    root.setLevel(level.upper())
    root.propagate = False


def flush_log() -> None:
    """Wait a moment until the log lines so far are written; without effect where nobody reads them."""
    for writer in _writers():
        writer.flush(_FLUSH_S)


def write_last_words(text: str) -> None:
    """Write why the program ends, after the log lines so far; to the journal with the priority of an error on each line."""
    priority = "<3>" if is_journal(sys.stderr, service_variables()) else ""
    writer = next((each for each in _writers() if each.stream is sys.stderr), None) or LineWriter(
        sys.stderr, lambda dropped: f"{dropped} lines were dropped"
    )
    for line in text.splitlines():
        writer.write(priority + printable(line))
    writer.flush(_FLUSH_S)


def _writers() -> list[LineWriter]:
    return [handler.writer for handler in logging.getLogger("edgepose").handlers if isinstance(handler, _QueuedHandler)]


class _QueuedHandler(logging.Handler):
    """A handler that formats records and hands them to a writer, so that no logging thread waits for a reader."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.writer = LineWriter(stream, self._told)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.write(self.format(record))
        except Exception:
            self.handleError(record)

    def _told(self, dropped: int) -> str:
        sentence = f"{dropped} log lines were dropped: nobody read standard error in time"
        fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": sentence}
        return self.format(logging.makeLogRecord(fields))


class TextFormatter(logging.Formatter):
    """A formatter whose lines show of a source only scheme and host, and no control characters; tracebacks keep their lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return scrub(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (a name that logging calls)
        """Return the line of a record, without its traceback."""
        record.message = printable(record.message, _MESSAGE_LIMIT)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of a traceback."""
        return "\n".join(printable(line, _MESSAGE_LIMIT) for line in super().formatException(ei).split("\n"))


def is_journal(stream: TextIO, variables: Mapping[str, str]) -> bool:
    """Return whether a stream leads to the journal.

    The journal names device and inode in `JOURNAL_STREAM`; programs inherit that variable, but may write elsewhere.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return variables.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class PriorityFormatter(logging.Formatter):
    """A formatter that prefixes lines with a priority (sd-daemon(3)); every line of a traceback too, since each is a separate entry."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in self._inner.format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """A formatter that writes one JSON object per line: `time`, `level`, `message`, `module`, `thread` and extra fields (`camera`)."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": printable(scrub(record.getMessage()), _MESSAGE_LIMIT),
            "module": record.name,
            "thread": record.threadName,
            **{
                name: printable(scrub(value), _MESSAGE_LIMIT) if isinstance(value, str) else value
                for name, value in vars(record).items()
                if name not in _ORDINARY
            },
        }
        if record.exc_info:
            fields["traceback"] = scrub(self.formatException(record.exc_info))
        return msgspec.json.encode(fields, enc_hook=str).decode()
