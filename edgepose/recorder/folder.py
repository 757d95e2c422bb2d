"""The folder of the black box: the ring of the current run, and recordings, each complete or absent."""

import fcntl
import logging
import os
import re
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from edgepose.encryption.files import state_files
from edgepose.errors import OutputError, UnavailableError
from edgepose.recorder.format import segments_in
from edgepose.recorder.segments import SegmentRing

_log = logging.getLogger(__name__)

_RING, _ENDED = "ring", "ended"
_RECORDING = re.compile(r"\d{8}T\d{6}Z-")  # as `_name` begins


@dataclass(slots=True, eq=False)
class Recording:
    """A recording that is being made.

    Attributes:
        reason: part of its folder's name.
        done: set when the recording exists or has failed.
        place: its folder, None where it has failed or is not complete.
    """

    reason: str
    done: threading.Event = field(default_factory=threading.Event)
    place: Path | None = None


class RecorderFolder:
    """The folder on disk; only the black box's thread uses it, once that runs. Methods raise OSError where the disk fails.

    Attributes:
        path: the folder.
        ring: folder of this run's segments, inside of `path`.
        limit_bytes: maximum size of the folder.
    """

    def __init__(self, path: Path, limit_bytes: float) -> None:
        self.path = path
        self.ring = path / _RING
        self.limit_bytes = limit_bytes
        self._lock: int | None = None

    def take_over(self) -> None:
        """Lock the folder, keep the ring of a run that was cut off as a recording, and start a new ring.

        Raises:
            OutputError: the folder cannot be written.
            UnavailableError: another daemon that still runs has locked the folder.
        """
        try:
            self._open()
            self._clear()
        except BlockingIOError as error:
            self.release()
            raise UnavailableError(
                f"another edgepose writes its black box into {self.path}; expected a folder of its own (key black_box.path)"
            ) from error
        except OSError as error:
            self.release()
            raise OutputError(f"the black box cannot use {self.path}: {error.strerror}; expected a folder it can write to") from error

    def release(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _clear(self) -> None:
        left = segments_in(self.ring)
        if left and not _on_disk(self.ring / _ENDED).exists():
            name = _name(_on_disk(left[-1]).stat().st_mtime, "unexpected-exit")
            place = _free(self.path / name)
            os.replace(_on_disk(self.ring), _on_disk(place))
            self._make_newest(place)
            _log.warning("the previous run was cut off; its last records are in %s", self.path / name)
        for path in (*segments_in(self.ring), self.ring / _ENDED):  # other files belong to other programs
            _on_disk(path).unlink(missing_ok=True)
        for name in state_files().names(self.path):
            if name.startswith(".") and name.endswith("-unfinished"):
                shutil.rmtree(_on_disk(self.path / name), ignore_errors=True)
        _on_disk(self.ring).mkdir(exist_ok=True)
        self.make_room()

    def restore(self) -> None:
        """Create and lock the folder again where it was deleted."""
        if _on_disk(self.ring).is_dir():
            return
        self.release()
        self._open()
        _on_disk(self.ring).mkdir(exist_ok=True)
        _log.warning("the folder of the black box %s was deleted; it was created again", self.path)

    def _open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the process

    def end(self) -> None:
        """Mark that the run ended in order, and unlock the folder."""
        _on_disk(self.ring / _ENDED).touch()
        self.release()

    def keep(self, ring: SegmentRing, reason: str) -> Path | None:
        """Make a recording of all segments of the ring and return its folder; None where the ring is empty."""
        ring.flush(now=True)
        segments = ring.segments()
        if not segments:
            return None
        place = _free(self.path / _name(time.time(), reason))
        unfinished = self.path / f".{place.name}-unfinished"
        _on_disk(unfinished).mkdir()
        for segment in segments:
            source, target = _on_disk(segment), _on_disk(unfinished / segment.name)
            if segment == ring.current:
                shutil.copy(source, target)  # more is written to this one
            else:
                os.link(source, target)
        _sync(*_on_disk(unfinished).iterdir(), _on_disk(unfinished))
        os.replace(_on_disk(unfinished), _on_disk(place))
        self._make_newest(place)
        _sync(self.path)
        _log.info("the black box keeps the last %.0f s in %s", ring.length_s(), place)
        self.make_room()
        return place

    def make_room(self) -> None:
        """Remove the oldest segments beyond half of the limit, and the oldest recordings beyond the rest.

        A new recording shares its segments with the ring, so there is always room for it.
        """
        segments = [_on_disk(segment) for segment in segments_in(self.ring)]
        sizes = [segment.stat().st_size for segment in segments]
        while len(segments) > 1 and sum(sizes) > self.limit_bytes / 2:
            segments.pop(0).unlink()
            sizes.pop(0)
        oldest = deque(sorted(self._recordings(), key=lambda place: _on_disk(place).stat().st_mtime_ns))
        while oldest and self._size() > self.limit_bytes:
            removed = oldest.popleft()
            shutil.rmtree(_on_disk(removed), ignore_errors=True)
            _log.info("the black box holds more than its limit: %s is removed", removed)

    def _recordings(self) -> list[Path]:
        """Return all recordings; other folders belong to other programs."""
        names = filter(_RECORDING.match, state_files().names(self.path))
        return [place for place in map(self.path.joinpath, names) if _on_disk(place).is_dir()]

    def _make_newest(self, made: Path) -> None:
        """Give a recording a later time than all others: made while the clock is not set, it would be removed as the oldest."""
        others = [_on_disk(place).stat().st_mtime_ns for place in self._recordings() if place != made]
        at_ns = max(time.time_ns(), *(other + 1_000_000_000 for other in others), 0)
        os.utime(_on_disk(made), ns=(at_ns, at_ns))

    def _size(self) -> int:
        """Return the bytes in the folder; a segment of a recording and the ring counts once."""
        stats = [_on_disk(segment).stat() for folder in (self.ring, *self._recordings()) for segment in segments_in(folder)]
        return sum({stat.st_ino: stat.st_size for stat in stats}.values())


def _on_disk(path: Path) -> Path:
    return state_files().place(path)


def _name(at_s: float, reason: str) -> str:
    when = datetime.fromtimestamp(at_s, timezone.utc)
    return f"{when:%Y%m%dT%H%M%SZ}-{reason}"


def _sync(*places: Path) -> None:
    """Flush files and folders to the disk."""
    for place in places:
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free(path: Path) -> Path:
    """Return the path, or the first numbered one that does not exist."""
    number = 1
    free = path
    while _on_disk(free).exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
