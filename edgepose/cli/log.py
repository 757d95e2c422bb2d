"""Log lines on standard error: text for people, priorities for the journal, or JSON for a log collector."""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

import msgspec

from edgepose.capture.redact import scrub
from edgepose.config.load import service_variables

_LINE = "%(asctime)s %(levelname)-7s %(message)s"
_TIME = "%H:%M:%S"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr(level: str, form: Literal["text", "json"] = "text") -> None:
    """Write log lines of `level` and above to standard error; with the journal's priorities where it leads to the journal."""
    root = logging.getLogger("edgepose")
    if root.handlers:  # --debug was handled first and shows more
        return
    handler = logging.StreamHandler(sys.stderr)
    to_journal = is_journal(sys.stderr, service_variables())
    formatter = (
        JsonFormatter() if form == "json" else TextFormatter(None if to_journal else _LINE, _TIME)
    )  # the journal adds the time itself
    handler.setFormatter(PriorityFormatter(formatter) if to_journal else formatter)
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


def is_journal(stream: TextIO, variables: Mapping[str, str]) -> bool:
    """Return whether a stream leads to the journal.

    The journal names device and inode in `JOURNAL_STREAM`; programs inherit that variable, but may write elsewhere.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return variables.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class TextFormatter(logging.Formatter):
    """A formatter that hides all of a source but scheme and host, also in tracebacks and in the texts of libraries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        return scrub(super().format(record))


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
            "message": scrub(record.getMessage()),
            "module": record.name,
            "thread": record.threadName,
            **{name: value for name, value in vars(record).items() if name not in _ORDINARY},
        }
        if record.exc_info:
            fields["traceback"] = scrub(self.formatException(record.exc_info))
        return msgspec.json.encode(fields, enc_hook=str).decode()
