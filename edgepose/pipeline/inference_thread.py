"""The thread that runs the pose network: a queued frame in, its candidates out."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from edgepose.engine.backend import Backend
from edgepose.errors import EdgeposeError, ModelError
from edgepose.person import Candidates, Person
from edgepose.pipeline.frame_slots import LatestFrameSlots, QueuedFrame
from edgepose.pipeline.stages import Preprocessor
from edgepose.pipeline.tiles import TileVisitor
from edgepose.supervision.backoff import DoublingWait
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics
from edgepose.tile import Tile, TileLook

_log = logging.getLogger(__name__)

TURN_S = 0.2
"""Longest wait of a thread, in seconds, between two checks for its end."""

_FAILURES_BEFORE_REOPENING = 3
_OPENING_S = 300.0  # opening a network may compile it
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 120.0  # between two openings
_SETTLED_S = 30.0  # an engine without a failure for this long has recovered


class InferenceResult(msgspec.Struct, frozen=True, eq=False):
    """A frame and the candidates that the network found in it.

    Attributes:
        queued: the frame.
        candidates: of the whole frame and the visited tiles.
        visited: tiles that were visited besides; None where the whole frame shows all there is, or tiles are off.
        looks: all tiles with the ages of their last visits, where they are to be drawn.
    """

    queued: QueuedFrame
    candidates: Candidates
    visited: tuple[Tile, ...] | None = None
    looks: tuple[TileLook, ...] = ()


class Engine(msgspec.Struct, frozen=True, eq=False):
    """An open pose network.

    Attributes:
        backend: open.
        open: reopens the backend after it has failed several times in a row; ModelError where its file is at fault.
        inputs: prepares frames again that were prepared for another network.
    """

    backend: Backend
    open: Callable[[], Backend]
    inputs: Preprocessor


class InferenceThread(SupervisedThread):
    """The thread that takes frames from the slots until all cameras have ended, and passes results on, at most one ahead of postprocessing.

    Attributes:
        engine: in use.
        inferred: the results; None at the end.
        failure: also set where the engine cannot be reopened.
    """

    def __init__(
        self,
        engine: Engine,
        slots: LatestFrameSlots,
        metrics: Metrics,
        cameras_done: Callable[[], bool],
        failed: Callable[[EdgeposeError], None],
        *,
        stuck_after_s: float,
        forever: bool,
    ) -> None:
        """
        Args:
            slots: queued frames.
            cameras_done: returns whether no camera will queue another frame.
            failed: receives the error where the engine cannot be reopened.
            stuck_after_s: longest time that the engine may take for one frame, seconds.
            forever: whether the work restarts after an unexpected error.
        """
        super().__init__("inference", stuck_after_s, restart=forever)
        self.engine = engine
        self.inferred: queue.Queue[InferenceResult | None] = queue.Queue(maxsize=1)
        self.known_people: Mapping[str, Sequence[Person]] = {}
        """People of the last frame by camera, which the postprocess thread writes."""
        self.tiles_of: Callable[[str], TileVisitor | None] = lambda camera: None
        """Returns the visitor of a camera's tiles, None where tiles are off."""
        self._slots = slots
        self._metrics = metrics
        self._cameras_done = cameras_done
        self._failed = failed
        self._lock = threading.Lock()  # guards _next
        self._next: Engine | None = None
        self._inputs: Preprocessor | None = None  # for the engine in use
        self._infers_live = False
        self._reopening = DoublingWait(_FIRST_WAIT_S, _LONGEST_WAIT_S, _SETTLED_S)

    def exchange(self, engine: Engine) -> None:
        """Use another engine from the next frame on; the one in use is closed then."""
        with self._lock:
            unused, self._next = self._next, engine
        if unused is not None:
            unused.backend.close()

    def prepare_with(self, inputs: Preprocessor) -> None:
        """Prepare frames of another size for the engine in use, from the next one on."""
        self._inputs = inputs

    def live_frame_waits(self) -> bool:
        """Return whether a live frame waits or is inferred now, so that postprocessing must be ready for it.

        Called by the postprocess thread.
        """
        if self._infers_live:  # all the more: two networks at once take longer than one after the other
            return True
        with self.inferred.mutex:
            results = list(self.inferred.queue)
        return any(result is not None and result.queued.live for result in results) or self._slots.live_frame_waits()

    def close(self) -> None:
        """Free the engine, once the thread has ended."""
        self._adopt_next()
        self.engine.backend.close()

    def work(self) -> None:
        """Run the network on one queued frame after the other."""
        failures = 0
        while not self.ending.is_set():
            self.heartbeat.beat()
            self._adopt_next()
            done = self._cameras_done()  # checked before the slots, or a last frame may be missed
            queued = self._slots.take(TURN_S)
            if queued is None:
                if done:
                    return
                continue
            frame = queued.prepared.frame
            self._infers_live = queued.live
            try:
                inferred = self._infer(queued)
            except ModelError as error:  # a server that has another network now
                self._give_up(error)
                return
            except Exception as error:
                failures += 1
                self._metrics.dropped(frame.camera, "engine_failed")
                if failures == 1:
                    log_failure(f"inference failed on frame {frame.sequence} of camera {frame.camera}", error)
                reopens = failures >= _FAILURES_BEFORE_REOPENING and not getattr(self.engine.backend, "heals", False)
                if reopens and self._reopening.due(time.monotonic()) and not self._reopen(failures):
                    return
                continue
            finally:
                self._infers_live = False
            if failures:
                _log.info("the engine works again after %d frames", failures)
                failures = 0
            self._hand_over(inferred)
            if queued.live:
                self._wait_until_taken()

    def finish(self) -> None:
        """Signal the postprocess thread that no result follows."""
        self._hand_over(None)

    def _adopt_next(self) -> None:
        inputs, self._inputs = self._inputs, None
        if inputs is not None:
            self.engine = replace(self.engine, inputs=inputs)
        with self._lock:
            following, self._next = self._next, None
        if following is None:
            return
        before, self.engine = self.engine, following
        before.backend.close()

    def _infer(self, queued: QueuedFrame) -> InferenceResult:
        self._metrics.took("slot", (time.monotonic_ns() - queued.since_ns) / 1e9)
        if not self.engine.inputs.suits(queued.prepared):  # prepared for the network that was in use before
            prepared = self.engine.inputs.prepare(queued.prepared.frame)
            queued = replace(queued, prepared=replace(prepared, started=queued.prepared.started))
        with self._metrics.timed("engine"):
            candidates = self.engine.backend.run(queued.prepared.images)
        frame, visited = queued.prepared.frame, None
        looks: tuple[TileLook, ...] = ()
        tiles = self.tiles_of(frame.camera)
        if tiles is not None:

            def more(_: int) -> bool:
                return not (self.ending.is_set() or self._slots.live_frame_waits())

            people = self.known_people.get(frame.camera, [])
            candidates, visited = tiles.candidates(queued.prepared, candidates, self.engine.backend, people, more if queued.live else None)
            looks = tiles.looks(frame.captured_at_ns)
            coverage = tiles.coverage(frame.captured_at_ns)
            if visited is not None and coverage is not None:
                self._metrics.covered(frame.camera, coverage.share, coverage.oldest_s)
        return InferenceResult(queued, candidates, visited, looks)

    def _reopen(self, failures: int) -> bool:
        _log.warning("opening the engine again after %d failures in a row", failures)
        self.heartbeat.beat(_OPENING_S)
        self.restarts += 1
        try:
            self.engine.backend.close()
            self.engine = replace(self.engine, backend=self.engine.open())
        except EdgeposeError as error:
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: EdgeposeError) -> None:
        _log.error("%s", error)
        self.failure = error
        self._failed(error)

    def _hand_over(self, inferred: InferenceResult | None) -> None:
        while not self.ending.is_set():
            self.heartbeat.beat()  # this thread waits and is not stuck: the postprocess thread is
            try:
                self.inferred.put(inferred, timeout=TURN_S)
            except queue.Full:
                continue
            return

    def _wait_until_taken(self) -> None:
        """Wait until the postprocess thread has taken the result: a live frame that is inferred before would only grow old behind it."""
        taken = self.inferred.not_full
        with taken:
            while self.inferred.queue and not self.ending.is_set():
                self.heartbeat.beat()
                taken.wait(TURN_S)


def log_failure(what: str, error: Exception) -> None:
    """Log an unexpected error in one line; with its traceback only at level debug."""
    _log.error("%s: %s: %s", what, type(error).__name__, error, exc_info=_log.isEnabledFor(logging.DEBUG))
