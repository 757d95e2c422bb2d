"""The black box: the last minutes of inference results on disk, without pixels, saved when something goes wrong.

The postprocess thread adds records and never waits. A thread of the black box writes them into segments of some seconds and removes the
oldest. A fault, a signal or a command makes a recording: hard links to the segments in a folder of its own, complete or absent.
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
from edgepose.ground import WorldPlaces
from edgepose.messages.camera_state import CameraState
from edgepose.model.file import ModelFile
from edgepose.recorder.folder import RecorderFolder, Recording
from edgepose.recorder.forgetting import forget_recordings, remove_before
from edgepose.recorder.format import FrameRecord, LossRecord, Record, SegmentHeader, StateRecord, settings_of
from edgepose.recorder.segments import FLUSH_S, SegmentRing
from edgepose.storage.span import Span

_log = logging.getLogger(__name__)

SEGMENT_S = 10.0
"""Length of a segment, seconds: a recording may be this much longer than configured."""

QUEUE_LIMIT = 256
"""Maximum number of records that wait for the disk."""

SAME_REASON_S = 60.0
"""Time, in seconds, in which the same reason makes no other recording."""

_SEGMENT_LIMIT_BYTES = 8_000_000  # or an eighth of what the folder may hold
_NOWHERE = WorldPlaces()
_RETRY_S = 1.0  # between two attempts to use a failed disk


class _End:
    """The end of the queue."""


@dataclass(slots=True, eq=False)
class _Forgetting:
    """A span that is deleted."""

    span: Span
    is_coarse: bool
    done: threading.Event = field(default_factory=threading.Event)
    records: int | None = None


_Item = tuple[SegmentHeader | None, Record]  # with a header, the record starts a segment


@dataclass(frozen=True, slots=True)
class RecorderStats:
    """The black box at one moment.

    Attributes:
        drops: records that were not kept since the start, by cause: `busy` (the disk could not keep up) or `failed` (it could not be
            written).
    """

    drops: Mapping[str, int] = field(default_factory=dict)


class BlackBox:
    """The recorder of one daemon.

    Attributes:
        drops: records that were not kept, by cause: `busy` (the disk could not keep up) or `failed` (it could not be written).
    """

    def __init__(self, config: Config, model: ModelFile) -> None:
        """
        Args:
            config: names the folder, and decides on people and events.
            model: the network in use.
        """
        assert config.black_box.path is not None
        self._folder = RecorderFolder(Path(config.black_box.path), config.black_box.limit_mb * 1_000_000)
        self._kept_s = config.black_box.minutes * 60
        self._model = model
        self._settings = settings_of(config)
        self._places = WorldPlaces()
        self.drops: Counter[str] = Counter()
        self._lock = threading.Lock()  # guards the six below: postprocess thread, camera threads and main thread
        self._generation = 1
        self._segment_due = False  # the next frame must start another segment: only the postprocess thread can take its snapshot
        self._began_s = 0.0
        self._informed: dict[str, int] = {}  # generation in which each camera's snapshot was taken
        self._headed = 0  # generation whose header was queued
        self._lost = 0  # records since the last LossRecord
        self._queue: queue.Queue[_Item | Recording | _Forgetting | _End] = queue.Queue(QUEUE_LIMIT)
        self._persisted_s: dict[str, float] = {}  # by reason: monotonic time of its last recording
        self._restarts: dict[str, int] = {}
        self._retry_s: float | None = None  # when the disk is tried again, after it failed
        self._thread = threading.Thread(target=self._write, name="black-box", daemon=True)

    def start(self) -> None:
        """Start writing; the ring of a previous run that was cut off becomes a recording.

        Raises:
            OutputError: the folder cannot be written.
            UnavailableError: another daemon writes into it.
        """
        self._folder.take_over()
        self._thread.start()

    def stats(self) -> RecorderStats:
        """Return the counts of this moment."""
        with self._lock:
            return RecorderStats(dict(self.drops))

    def configure(self, config: Config, places: WorldPlaces = _NOWHERE) -> None:
        """Note other settings, and places on the map; called by the postprocess thread when it applies them to the next frame."""
        with self._lock:
            self._settings, self._places = settings_of(config), places
            self._generation += 1

    def exchange(self, model: ModelFile) -> None:
        """Note which pose network is in use from the next frames on."""
        with self._lock:
            self._segment_due |= model is not self._model
            self._model = model

    def begin(self) -> None:
        """Note that the postprocess thread starts or restarts: its state is gone."""
        with self._lock:
            self._generation += 1

    def wants_snapshot(self, camera: str) -> bool:
        """Return whether the camera's next frame must come with a snapshot; called by the postprocess thread before the frame and `add`."""
        now_s = time.monotonic()
        with self._lock:
            if self._segment_due or now_s - self._began_s >= SEGMENT_S:
                self._segment_due = False
                self._generation += 1
            return self._informed.get(camera) != self._generation

    def add(self, frame: FrameRecord) -> None:
        """Record a frame; never waits."""
        with self._lock:
            if self._put((self._header(frame.at_ns), frame)):
                self._informed[frame.camera] = self._generation
            else:
                self._generation += 1  # without this frame, later ones can only be replayed from another snapshot

    def state(self, state: CameraState) -> None:
        """Record a change of a camera's state; never waits."""
        at_ns = time.time_ns()
        record = StateRecord(camera=state.camera, state=state.state, cause=state.cause, detail=state.detail, epoch=state.epoch, at_ns=at_ns)
        with self._lock:
            self._put((self._header(at_ns), record))

    def persist(self, reason: str, *, wait_s: float = 0.0) -> bool:
        """Make a recording of the last minutes; the same reason makes another only after a minute.

        Args:
            reason: one word, part of the folder's name.
            wait_s: longest wait for the recording; 0 only starts it.

        Returns:
            Whether the recording exists, or has started where `wait_s` is 0.
        """
        try:
            recording = self.record(reason, within_s=wait_s or 0.5)
        except UnavailableError:
            return False
        return recording.done.wait(wait_s) and recording.place is not None if wait_s else True

    def record(self, reason: str, *, within_s: float = 0.5) -> Recording:
        """Start a recording and return it.

        Args:
            reason: one word, part of the folder's name.
            within_s: longest wait for a disk that cannot keep up.

        Raises:
            UnavailableError: a recording for the same reason was made in the last minute, or the disk cannot keep up.
        """
        now_s = time.monotonic()
        since_s = now_s - self._persisted_s.get(reason, -SAME_REASON_S)
        if since_s < SAME_REASON_S:
            raise UnavailableError(f"a recording for the reason {reason} was made {since_s:.0f} s ago; expected one a minute at most")
        recording = Recording(reason)
        try:
            self._queue.put(recording, timeout=within_s)
        except queue.Full as error:
            raise UnavailableError("the disk of the black box cannot keep up; expected another attempt in a moment") from error
        self._persisted_s[reason] = now_s
        return recording

    def forget(self, span: Span, within_s: float, *, is_coarse: bool = False) -> int | None:
        """Delete the records of a span from the ring and all recordings; return how many, None where that fails or takes too long.

        Args:
            span: what is deleted.
            within_s: longest wait for the disk.
            is_coarse: whether only whole segments that ended before the end of the span are deleted, without reading any.
        """
        forgetting = _Forgetting(span, is_coarse)
        try:
            self._queue.put(forgetting, timeout=within_s)
        except queue.Full:
            return None
        return forgetting.records if forgetting.done.wait(within_s) else None

    def watch(self, restarts: Mapping[str, int]) -> None:
        """Make a recording where a stage has restarted since the last call; called regularly by the main thread.

        Args:
            restarts: number of restarts so far, by stage.
        """
        for stage, count in restarts.items():
            if count > self._restarts.get(stage, 0):
                self.persist(f"{stage}-restarted")
        self._restarts = dict(restarts)

    def close(self, failure: str | None = None, *, timeout_s: float = 0.5) -> None:
        """Complete the ring; first make a recording where the daemon ends because of a failure, which is then the reason."""
        if failure is not None and self._thread.is_alive():
            self.persist(failure, wait_s=timeout_s)
        if self._thread.ident is None:
            return
        try:
            self._queue.put(_End(), timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _header(self, at_ns: int) -> SegmentHeader | None:
        """Return the header of the segment that the next record starts, None where it continues one."""
        if self._headed == self._generation:
            return None
        return SegmentHeader(
            edgepose=__version__,
            model=self._model.path.name,
            sha256=self._model.sha256,
            settings=self._settings,
            at_ns=at_ns,
            places=self._places,
        )

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

    # The methods below run in the black box's thread.

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
                # A folder that was deleted is created again at once; a full disk stays full for a while.
                self._retry_s = time.monotonic() + (0.0 if isinstance(error, FileNotFoundError) else _RETRY_S)
                self._lose("failed")
                ring.abandon()
            if isinstance(item, _End):
                return

    def _handle(self, ring: SegmentRing, item: "_Item | Recording | _Forgetting | _End | None") -> None:
        if isinstance(item, _End):
            ring.end()
            self._folder.end()
        elif isinstance(item, Recording):
            try:
                item.place = self._folder.keep(ring, item.reason)
            finally:
                if item.place is None:
                    self._persisted_s.pop(item.reason, None)
                item.done.set()
        elif isinstance(item, _Forgetting):
            try:
                if item.is_coarse:
                    item.records = remove_before(self._folder.path, item.span.to_ns)
                else:
                    ring.end()
                    self._segment_due = True
                    item.records = forget_recordings(self._folder.path, item.span)
            finally:
                item.done.set()
        elif item is not None:
            header, record = item
            if self._retry_s is not None and self._retry_s <= time.monotonic():
                self._retry_s = time.monotonic() + _RETRY_S
                self._segment_due = True
            if header is not None:
                self._folder.restore()
                ring.begin(header)
                self._folder.make_room()
            if not ring.is_open:
                self._lose("failed")
                return
            with self._lock:
                lost, self._lost = self._lost, 0
            if lost:
                ring.add(LossRecord(records=lost))
            ring.add(record)
            if ring.size_bytes > min(_SEGMENT_LIMIT_BYTES, self._folder.limit_bytes / 8):
                self._segment_due = True
        if ring.flush() and self._retry_s is not None:
            self._retry_s = None
            _log.info("the black box can be written again")
