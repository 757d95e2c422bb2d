"""Deletion of a span from recordings: records that lie in it go, the others stay, and what is empty is removed."""

import os
import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from edgepose.encryption.files import state_files
from edgepose.errors import RecordingError
from edgepose.recorder.format import KIND, FrameRecord, Record, SegmentHeader, StateRecord, first_line, packed, records, segments_in
from edgepose.storage.span import Span

_RING = "ring"
_RECORDING = re.compile(r"(\d{8}T\d{6}Z)-(.+)")


def forget_recordings(folder: Path, span: Span) -> int:
    """Delete the records of a span from all recordings and the ring; return how many.

    Args:
        folder: of the black box; nothing of it is open for writing.
        span: what is deleted. What lies beyond is kept, and where a segment follows the span, its people are found anew in a replay.

    Raises:
        OSError: the disk fails.
    """
    gone = 0
    for inner in _folders_in(folder):
        for segment in segments_in(inner):
            gone += _forget_in(segment, span)
        if inner.name != _RING:
            _rename_or_remove(inner, span)
    return gone


def remove_before(folder: Path, before_ns: int) -> int:
    """Remove the segments that ended before a time, and recordings without segments; return how many segments."""
    place = state_files().place
    gone = 0
    for inner in _folders_in(folder):
        for segment in segments_in(inner):
            if place(segment).stat().st_mtime_ns < before_ns:
                place(segment).unlink()
                gone += 1
        if inner.name != _RING and not segments_in(inner):
            shutil.rmtree(place(inner), ignore_errors=True)
    return gone


def _folders_in(folder: Path) -> list[Path]:
    """Return the ring and the recordings in the folder of a black box."""
    inner = (folder / name for name in state_files().names(folder) if name == _RING or _RECORDING.match(name))
    return [each for each in inner if state_files().place(each).is_dir()]


def _forget_in(segment: Path, span: Span) -> int:
    """Delete the records of a span from a segment, and return how many."""
    place = state_files().place
    try:
        found = list(records(segment))
    except RecordingError:  # of another version, or nothing verifies: nobody can say what it holds
        place(segment).unlink()
        return 1
    kept = [_without_past(record, span) for record in found if not _is_of(record, span)]
    gone = len(found) - len(kept)
    times = [record.at_ns for record in kept if isinstance(record, FrameRecord | StateRecord)]
    if not times and (gone or _began_in(found, span)):
        place(segment).unlink()
        return gone
    if kept == found:
        return 0
    first = min(times, default=0)
    content = first_line()
    for number, record in enumerate(kept, 1):
        begins = isinstance(record, SegmentHeader) and span.holds(record.at_ns)
        content += packed(replace(record, at_ns=first) if begins else record, number)
    status = place(segment).stat()
    name = segment.with_name(f"{segment.name}.new")
    file = state_files().open(name, KIND, mode=0o440, truncate=True)
    try:
        file.append(content)
        os.fsync(file.descriptor)
    finally:
        file.close()
    os.replace(place(name), place(segment))
    os.utime(place(segment), ns=(status.st_atime_ns, status.st_mtime_ns))
    return gone


def _is_of(record: Record, span: Span) -> bool:
    match record:
        case FrameRecord():
            return span.holds(record.captured_at_ns, record.camera) or span.holds(record.at_ns, record.camera)
        case StateRecord():
            return span.holds(record.at_ns, record.camera)
    return False


def _began_in(found: list[Record], span: Span) -> bool:
    return any(isinstance(record, SegmentHeader) and span.holds(record.at_ns) for record in found)


def _without_past(record: Record, span: Span) -> Record:
    """Return a frame without its snapshot of earlier frames, where that holds a time of the span."""
    if not isinstance(record, FrameRecord) or record.snapshot is None or (span.camera not in (None, record.camera)):
        return record
    try:
        state = msgspec.msgpack.decode(record.snapshot)
    except msgspec.MsgspecError:
        return replace(record, snapshot=None)
    return replace(record, snapshot=None) if _holds_time(state, span) else record


def _holds_time(state: Any, span: Span) -> bool:
    match state:
        case bool():
            return False
        case int():
            return state > 10**18 and span.holds(state)  # nanoseconds since 2001 or later; shorter ones count from the start
        case dict():
            return any(_holds_time(each, span) for each in state.values())
        case list():
            return any(_holds_time(each, span) for each in state)
    return False


def _rename_or_remove(folder: Path, span: Span) -> None:
    """Remove a recording without segments; give one whose name tells a time of the span another name."""
    place = state_files().place
    segments = segments_in(folder)
    if not segments:
        shutil.rmtree(place(folder), ignore_errors=True)
        return
    named = _RECORDING.match(folder.name)
    assert named is not None
    at_ns = int(datetime.strptime(named[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()) * 1_000_000_000
    if span.camera is None and span.from_ns // 1_000_000_000 * 1_000_000_000 <= at_ns <= span.to_ns:
        times = [record.at_ns for segment in segments for record in records(segment) if isinstance(record, FrameRecord | StateRecord)]
        last = datetime.fromtimestamp(max(times, default=0) / 1e9, timezone.utc)
        target, number = folder.with_name(f"{last:%Y%m%dT%H%M%SZ}-{named[2]}"), 1
        while place(target).exists():
            number += 1
            target = folder.with_name(f"{last:%Y%m%dT%H%M%SZ}-{named[2]}-{number}")
        os.replace(place(folder), place(target))
