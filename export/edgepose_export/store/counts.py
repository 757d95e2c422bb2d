"""Counters of a store: what was received, kept, and dropped by cause."""

import logging
import threading
from collections import Counter
from typing import Literal

_log = logging.getLogger(__name__)

DropCause = Literal[
    "too_large",
    "topic",
    "device_name",
    "camera_name",
    "malformed",
    "schema",
    "not_finite",
    "number",
    "too_many_people",
    "time",
    "expired",
    "forgotten",
    "duplicate",
    "damaged",
]
"""Why a message is not kept:

- `too_large`: longer than `--message-limit-kb`; its bytes are read and thrown away.
- `topic`, `device_name`, `camera_name`: not a topic of poses or events, or a name that no configuration of edgepose accepts.
- `malformed`, `schema`: not a message of edgepose, or one of another version.
- `not_finite`, `number`: a number that is NaN or infinite, or too large for its column.
- `too_many_people`: more people than a frame of edgepose has.
- `time`: a time before `OLDEST_DAYS`, or more than a day in the future.
- `expired`, `forgotten`: older than `--retain`, or covered by `forget`.
- `duplicate`: kept already, which is a repeated delivery and no loss.
- `damaged`: a record of the journal that a disk did not give back.
"""

_QUIET = ("duplicate", "expired", "forgotten")
"""Causes that are no reason for a warning."""


class StoreCounts:
    """Counters, which several threads add to. The first drop of each cause is logged."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._drops: Counter[DropCause] = Counter()

    def add(self, name: Literal["received", "poses", "people", "events", "reconnects"], number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += number

    def drop(self, cause: DropCause, detail: str = "", number: int = 1) -> None:
        """Count messages that are not kept.

        Args:
            cause: of the loss.
            detail: printable; for the log, where this is the first of its cause.
            number: of messages.
        """
        with self._lock:
            first = cause not in self._drops
            self._drops[cause] += number
        if first and cause not in _QUIET:
            _log.warning("a message is not kept: %s%s; further ones are only counted", cause, f" ({detail})" if detail else "")

    def values(self) -> dict[str, int | dict[str, int]]:
        """Return all counters as JSON values."""
        with self._lock:
            counts: dict[str, int | dict[str, int]] = {name: self._counts[name] for name in ("received", "poses", "people", "events")}
            return counts | {"reconnects": self._counts["reconnects"], "drops": {str(cause): n for cause, n in self._drops.items()}}
