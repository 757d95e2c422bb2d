"""A span of time whose data is deleted, of all cameras or of one."""

import sys
from datetime import datetime

import msgspec


class _Times(msgspec.Struct, frozen=True):
    """What a message or a line says of its camera and times."""

    camera: str | None = None
    at: str | None = None
    since: str | None = None
    captured_at: str | None = None
    payload: str | None = None


class Span(msgspec.Struct, frozen=True):
    """A span of time.

    Attributes:
        from_ns, to_ns: first and last moment, nanoseconds since the Unix epoch.
        camera: whose data is meant; None for all.
    """

    from_ns: int = 0
    to_ns: int = sys.maxsize
    camera: str | None = None

    def holds(self, at_ns: int, camera: str | None = None) -> bool:
        """Return whether a moment, of a camera where one is named, is in the span."""
        return self.from_ns <= at_ns <= self.to_ns and (self.camera is None or camera is None or camera == self.camera)

    def holds_message(self, payload: bytes) -> bool:
        """Return whether an event or a pose message, JSON or MessagePack, is of the span; True where nobody can read it."""
        found = _decoded(payload)
        if found is None:
            return True
        return self._overlaps(found, unknown=True) and (self.camera is None or found.camera == self.camera)

    def holds_line(self, line: bytes) -> bool:
        """Return whether a line of the audit log is of the span; with a camera, those that name it."""
        found = _decoded(line)
        if found is None or not self._overlaps(found, unknown=False):
            return False
        return self.camera is None or f'"{self.camera}"' in (found.payload or "")

    def _overlaps(self, found: _Times, *, unknown: bool) -> bool:
        times = [nanoseconds(text) for text in (found.at, found.since, found.captured_at) if text is not None]
        known = [at_ns for at_ns in times if at_ns is not None]
        return min(known) <= self.to_ns and max(known) >= self.from_ns if known else unknown


def nanoseconds(text: str) -> int | None:
    """Return a time as messages write it (RFC 3339) in nanoseconds since the Unix epoch; None where it is none."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        return None


def _decoded(payload: bytes) -> _Times | None:
    for decode in (msgspec.json.decode, msgspec.msgpack.decode):
        try:
            return decode(payload, type=_Times)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None
