"""The black box: the last minutes of what the engine saw, on disk, without pixels; kept for good when something goes wrong.

The people thread hands over records and never waits. A thread of its own writes them into segments of some seconds, and forgets the oldest.
A fault, or somebody who asks, makes a recording of what is there: hard links in a folder of its own, complete or not there at all.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgepose import __version__
from edgepose.config.schema import Config
from edgepose.errors import UnavailableError
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import ModelFile
from edgepose.recorder.folder import RecorderFolder, Recording
from edgepose.recorder.format import FrameRecord, LossRecord, Record, SegmentHeader, StateRecord, settings_of
from edgepose.recorder.segments import FLUSH_S, SegmentRing

_log = logging.getLogger(__name__)

SEGMENT_S = 10.0
"""Length of a segment, and so the most that a recording is longer than asked for."""

WAITING_LIMIT = 256
"""Most records that wait for the disk."""

AGAIN_S = 60.0
"""How long the same fault makes no other recording."""

_SEGMENT_LIMIT = 8_000_000  # bytes; or an eighth of what the folder may hold
_RETRY_S = 1.0  # between two attempts to use a disk that failed


class _End:
    """That nothing more comes."""


_Item = tuple[SegmentHeader | None, Record]  # the header where a segment is to begin with the record


@dataclass(frozen=True, slots=True)
class RecorderStats:
    """The black box at one moment.

    Attributes:
        drops: records that were not kept since the start, by cause: `busy` (the disk could not keep up) or `failed` (it could not be
            written).
    """

    drops: Mapping[str, int] = field(default_factory=dict)


class BlackBox:
    """Keeps records of one daemon.

    Attributes:
        drops: records that were not kept, by cause: `busy` (the disk could not keep up) or `failed` (it could not be written).
    """

    def __init__(self, config: Config, model: ModelFile) -> None:
        """
        Args:
            config: with the folder, and with what decides on people and events.
            model: the network in use.
        """
        assert config.black_box.path is not None
        self._folder = RecorderFolder(Path(config.black_box.path), config.black_box.limit_mb * 1_000_000)
        self._kept_s = config.black_box.minutes * 60
        self._model = model
        self._settings = settings_of(config)
        self.drops: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards the six below: people thread, camera threads and main thread
        self._generation = 1
        self._turn_wanted = False  # another segment is to begin with the next look: only the people thread knows when that can be
        self._began_s = 0.0
        self._informed: dict[str, int] = {}  # generation in which each camera's memory was given
        self._headed = 0  # generation whose header was given
        self._lost = 0  # records, since that was last noted among them
        self._queue: queue.Queue[_Item | Recording | _End] = queue.Queue(WAITING_LIMIT)
        self._told: dict[str, float] = {}
        self._restarts: dict[str, int] = {}
        self._retry_s: float | None = None  # when the disk is tried again, after it failed
        self._thread = threading.Thread(target=self._write, name="black-box", daemon=True)

    @classmethod
    def configured(cls, config: Config, model: ModelFile) -> "BlackBox | None":
        """The black box that a configuration asks for, None where it asks for none."""
        return cls(config, model) if config.black_box.path is not None else None

    def start(self) -> None:
        """Begins to write; what a run before left without an end becomes a recording.

        OutputError where the folder cannot be written, UnavailableError where another daemon writes into it.
        """
        self._folder.take_over()
        self._thread.start()

    def stats(self) -> RecorderStats:
        """Return the counts of this moment."""
        with self._lock:
            return RecorderStats(dict(self.drops))

    def configure(self, config: Config) -> None:
        """Other settings from the next frame on; called by the people thread, which has them from then on."""
        with self._lock:
            self._settings = settings_of(config)
            self._generation += 1

    def exchange(self, model: ModelFile) -> None:
        """Another network is in use, or soon so."""
        with self._lock:
            self._model = model
            self._turn_wanted = True

    def begin(self) -> None:
        """The people thread begins, anew perhaps: what it remembered is gone."""
        with self._lock:
            self._generation += 1

    def wants_memory(self, camera: str) -> bool:
        """Whether the next look of a camera has to bring what is remembered of its people; called by the people thread, before `look`."""
        now_s = time.monotonic()
        with self._lock:
            if self._turn_wanted or now_s - self._began_s >= SEGMENT_S:
                self._turn_wanted = False
                self._generation += 1
            return self._informed.get(camera) != self._generation

    def look(self, look: FrameRecord) -> None:
        """Keeps what the engine saw; never waits."""
        with self._lock:
            if self._put((self._header(look.at), look)):
                self._informed[look.camera] = self._generation
            else:
                self._generation += 1  # what comes is of no use without what was remembered

    def state(self, state: CameraState) -> None:
        """Keeps a change of a camera's state; never waits."""
        at = time.time_ns()
        record = StateRecord(camera=state.camera, state=state.state, cause=state.cause, detail=state.detail, epoch=state.epoch, at=at)
        with self._lock:
            self._put((self._header(at), record))

    def persist(self, reason: str, *, wait_s: float = 0.0) -> bool:
        """Makes a recording of the last minutes; the same reason makes another only after a minute.

        Args:
            reason: one word, part of the folder's name.
            wait_s: how long to wait until it is there.

        Returns:
            Whether it is there, or under way where nobody waits.
        """
        try:
            recording = self.record(reason, within_s=wait_s or 0.5)
        except UnavailableError:
            return False
        return recording.done.wait(wait_s) and recording.place is not None if wait_s else True

    def record(self, reason: str, *, within_s: float = 0.5) -> Recording:
        """Begins to make a recording, as `persist` does.

        Args:
            within_s: longest wait for a disk that cannot keep up.

        Raises:
            UnavailableError: the same reason has made one in the last minute, or the disk cannot keep up.
        """
        now_s = time.monotonic()
        since_s = now_s - self._told.get(reason, -AGAIN_S)
        if since_s < AGAIN_S:
            raise UnavailableError(f"a recording for the reason {reason} was made {since_s:.0f} s ago; expected one a minute at most")
        recording = Recording(reason)
        try:
            self._queue.put(recording, timeout=within_s)
        except queue.Full as error:
            raise UnavailableError("the disk of the black box cannot keep up; expected another attempt in a moment") from error
        self._told[reason] = now_s
        return recording

    def watch(self, restarts: Mapping[str, int]) -> None:
        """Makes a recording when a stage was begun again; called now and then by the main thread.

        Args:
            restarts: of each stage so far.
        """
        for stage, count in restarts.items():
            if count > self._restarts.get(stage, 0):
                self.persist(f"{stage}-restarted")
        self._restarts = dict(restarts)

    def close(self, failure: str | None = None, *, timeout_s: float = 0.5) -> None:
        """Completes what was written; makes a recording first where the daemon ends because of a failure."""
        if failure is not None and self._thread.is_alive():
            self.persist(failure, wait_s=timeout_s)
        if self._thread.ident is None:
            return
        try:
            self._queue.put(_End(), timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _header(self, at: int) -> SegmentHeader | None:
        """The header of the segment that the next record begins, None where it goes on with one."""
        if self._headed == self._generation:
            return None
        return SegmentHeader(edgepose=__version__, model=self._model.path.name, sha256=self._model.sha256, settings=self._settings, at=at)

    def _put(self, item: _Item) -> bool:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._lose("busy")
            return False
        if item[0] is not None:
            self._headed, self._began_s = self._generation, time.monotonic()
        return True

    def _lose(self, cause: str) -> None:
        if not self.drops[cause]:
            _log.warning("the black box loses records: %s", "the disk cannot keep up" if cause == "busy" else "it cannot be written")
        self.drops[cause] += 1
        self._lost += 1

    # All below runs in the thread of the black box.

    def _write(self) -> None:
        ring = SegmentRing(self._folder.ring, self._kept_s)
        while True:
            try:
                item = self._queue.get(timeout=FLUSH_S)
            except queue.Empty:
                item = None
            try:
                self._handle(ring, item)
            except OSError as error:
                if self._retry_s is None:
                    _log.error("the black box cannot be written: %s; trying again", error.strerror)
                self._retry_s = time.monotonic() + _RETRY_S
                self._lose("failed")
                ring.abandon()
            if isinstance(item, _End):
                return

    def _handle(self, ring: SegmentRing, item: "_Item | Recording | _End | None") -> None:
        if isinstance(item, _End):
            ring.end()
            self._folder.end()
        elif isinstance(item, Recording):
            try:
                item.place = self._folder.keep(ring, item.reason)
            finally:
                if item.place is None:
                    self._told.pop(item.reason, None)
                item.done.set()
        elif item is not None:
            header, record = item
            if self._retry_s is not None and self._retry_s < time.monotonic():
                self._retry_s = time.monotonic() + _RETRY_S
                self._turn_wanted = True
            if header is not None:
                ring.begin(header)
                self._folder.make_room()
            if not ring.begun:
                self._lose("failed")
                return
            with self._lock:
                lost, self._lost = self._lost, 0
            if lost:
                ring.add(LossRecord(records=lost))
            ring.add(record)
            if ring.size > min(_SEGMENT_LIMIT, self._folder.limit / 8):
                self._turn_wanted = True
        if ring.flush() and self._retry_s is not None:
            self._retry_s = None
            _log.info("the black box can be written again")
