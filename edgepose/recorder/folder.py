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

from edgepose.errors import OutputError, UnavailableError
from edgepose.recorder.format import SUFFIX
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
        left = sorted(self.ring.glob(f"*{SUFFIX}"))
        if left and not (self.ring / _ENDED).exists():
            name = _name(left[-1].stat().st_mtime, "unexpected-exit")
            place = _free(self.path / name)
            os.replace(self.ring, place)
            self._make_newest(place)
            _log.warning("the previous run was cut off; its last records are in %s", self.path / name)
        for path in (*self.ring.glob(f"*{SUFFIX}"), self.ring / _ENDED):  # other files belong to other programs
            path.unlink(missing_ok=True)
        for unfinished in self.path.glob(".*-unfinished"):
            shutil.rmtree(unfinished, ignore_errors=True)
        self.ring.mkdir(exist_ok=True)
        self.make_room()

    def restore(self) -> None:
        """Create and lock the folder again where it was deleted."""
        if self.ring.is_dir():
            return
        self.release()
        self._open()
        self.ring.mkdir(exist_ok=True)
        _log.warning("the folder of the black box %s was deleted; it was created again", self.path)

    def _open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released with the process

    def end(self) -> None:
        """Mark that the run ended in order, and unlock the folder."""
        (self.ring / _ENDED).touch()
        self.release()

    def keep(self, ring: SegmentRing, reason: str) -> Path | None:
        """Make a recording of all segments of the ring and return its folder; None where the ring is empty."""
        ring.flush(now=True)
        segments = ring.segments()
        if not segments:
            return None
        place = _free(self.path / _name(time.time(), reason))
        unfinished = self.path / f".{place.name}-unfinished"
        unfinished.mkdir()
        for segment in segments:
            if segment == ring.current:
                shutil.copy(segment, unfinished / segment.name)  # more is written to this one
            else:
                os.link(segment, unfinished / segment.name)
        _sync(*unfinished.iterdir(), unfinished)
        os.replace(unfinished, place)
        self._make_newest(place)
        _sync(self.path)
        _log.info("the black box keeps the last %.0f s in %s", ring.length_s(), place)
        self.make_room()
        return place

    def make_room(self) -> None:
        """Remove the oldest segments beyond half of the limit, and the oldest recordings beyond the rest.

        A new recording shares its segments with the ring, so there is always room for it.
        """
        segments = sorted(self.ring.glob(f"*{SUFFIX}"))
        sizes = [segment.stat().st_size for segment in segments]
        while len(segments) > 1 and sum(sizes) > self.limit_bytes / 2:
            segments.pop(0).unlink()
            sizes.pop(0)
        oldest = deque(sorted(self._recordings(), key=lambda place: place.stat().st_mtime_ns))
        while oldest and self._size() > self.limit_bytes:
            removed = oldest.popleft()
            shutil.rmtree(removed, ignore_errors=True)
            _log.info("the black box holds more than its limit: %s is removed", removed)

    def _recordings(self) -> list[Path]:
        """Return all recordings; other folders belong to other programs."""
        return [place for place in self.path.iterdir() if _RECORDING.match(place.name) and place.is_dir()]

    def _make_newest(self, made: Path) -> None:
        """Give a recording a later time than all others: made while the clock is not set, it would be removed as the oldest."""
        others = [place.stat().st_mtime_ns for place in self._recordings() if place != made]
        at_ns = max(time.time_ns(), *(other + 1_000_000_000 for other in others), 0)
        os.utime(made, ns=(at_ns, at_ns))

    def _size(self) -> int:
        """Return the bytes in the folder; a segment of a recording and the ring counts once."""
        stats = [file.stat() for file in self.path.rglob(f"*{SUFFIX}")]
        return sum({stat.st_ino: stat.st_size for stat in stats}.values())


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
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
