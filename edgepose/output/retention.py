"""What is deleted from result files: a span, or what is too old or too much."""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import av
import av.error

from edgepose.encryption.files import state_files, write_whole
from edgepose.output.files import KIND
from edgepose.output.lines_limit import older_file, time_of_line
from edgepose.output.video import KIND as PICTURE_KIND
from edgepose.storage.span import Span

_MARGIN_NS = 60_000_000_000  # an image is written after its frame was captured
_LONGEST_READ_BYTES = 256 << 20  # a longer video counts as of the whole past


def forget_result_lines(path: Path, span: Span) -> int:
    """Delete the lines of a span from a file that nobody has open, and from the one before; return how many.

    Raises:
        OSError: the disk fails.
    """
    files = state_files()
    gone = 0
    for each in (older_file(path), path):
        if not files.place(each).is_file():
            continue
        lines = files.load(each, KIND).splitlines(keepends=True)
        kept = [line for line in lines if (found := time_of_line(line)) is None or not span.holds(found[1], found[0])]
        if len(kept) < len(lines):
            write_whole(each, b"".join(kept), KIND, mode=0o666)
            gone += len(lines) - len(kept)
    return gone


def forget_pictures(folder: Path, is_ours: Callable[[str], bool], span: Span) -> int:
    """Delete videos and images that were written in a span; return how many.

    Args:
        folder: of the files.
        is_ours: whether a name is one of them, of a camera of the span.
        span: a video goes as a whole.
    """
    files = state_files()
    gone = 0
    for path in _pictures(folder, is_ours):
        place = files.place(path)
        ended_ns = place.stat().st_mtime_ns
        if ended_ns >= span.from_ns and ended_ns - _duration_ns(path) <= span.to_ns + _MARGIN_NS:
            place.unlink()
            gone += 1
    return gone


def remove_pictures(folder: Path, is_ours: Callable[[str], bool], before_ns: int, total_bytes: int) -> int:
    """Delete videos and images that are too old, and the oldest while all are too large; return how many."""
    files = state_files()
    status = {path: files.place(path).stat() for path in _pictures(folder, is_ours)}
    ordered = sorted(status, key=lambda path: status[path].st_mtime_ns)
    size = sum(each.st_size for each in status.values())
    gone = 0
    for path in ordered[:-1]:  # the newest may be open
        if status[path].st_mtime_ns >= before_ns and size <= total_bytes:
            break
        files.place(path).unlink(missing_ok=True)
        size -= status[path].st_size
        gone += 1
    return gone


def remove_result_lines(path: Path, age_ns: int, now_ns: int) -> int:
    """Delete files of lines that nothing was written to for so long that all of it may be too old; return how many."""
    gone = 0
    for each in (older_file(path), path):
        place = state_files().place(each)
        if place.is_file() and now_ns - place.stat().st_mtime_ns > age_ns // 2:
            os.unlink(place)
            gone += 1
    return gone


def _pictures(folder: Path, is_ours: Callable[[str], bool]) -> Iterable[Path]:
    files = state_files()
    return [folder / name for name in files.names(folder) if is_ours(name) and files.place(folder / name).is_file()]


def _duration_ns(path: Path) -> int:
    """Return how long a video is, nothing for an image, and all the past where that cannot be told."""
    if path.suffix.lower() != ".mp4":
        return 0
    place = state_files().place(path)
    unknown = place.stat().st_mtime_ns
    try:
        if place.stat().st_size > _LONGEST_READ_BYTES:
            return unknown
        with av.open(io.BytesIO(state_files().load(path, PICTURE_KIND)), metadata_errors="ignore") as container:
            return unknown if container.duration is None else container.duration * 1000
    except (OSError, av.error.FFmpegError):
        return unknown
