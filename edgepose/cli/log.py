"""Log lines on standard error: for people, for the journal with its priorities, or as JSON for whoever collects them."""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

import msgspec

from edgepose.config.load import service_variables

_LINE = "%(asctime)s %(levelname)-7s %(message)s"
_TIME = "%H:%M:%S"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def log_to_stderr(level: str, form: Literal["text", "json"] = "text") -> None:
    """Writes log lines from `level` up to standard error; where that is the journal, with the priorities that it understands."""
    root = logging.getLogger("edgepose")
    if root.handlers:  # --debug came first and shows more
        return
    handler = logging.StreamHandler(sys.stderr)
    to_journal = is_journal(sys.stderr, service_variables())
    formatter = JsonFormatter() if form == "json" else logging.Formatter(None if to_journal else _LINE, _TIME)  # the journal adds the time
    handler.setFormatter(PriorityFormatter(formatter) if to_journal else formatter)
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


def is_journal(stream: TextIO, variables: Mapping[str, str]) -> bool:
    """Whether a stream leads to the journal, which names device and inode: programs inherit the variable and write elsewhere."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return variables.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class PriorityFormatter(logging.Formatter):
    """Lines with a priority in front, as sd-daemon(3) wants them; in every line of a traceback, since each is an entry of its own."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The lines of a record."""
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in self._inner.format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `message`, `module`, `thread`, and what the place adds (`camera`, `cause`, …)."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "module": record.name,
            "thread": record.threadName,
            **{name: value for name, value in vars(record).items() if name not in _ORDINARY},
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()
