"""The thread that turns candidates into people and events, records them and delivers them."""

import logging
import queue
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import msgspec

from edgepose.config.schema import Config
from edgepose.flight.service import FlightService
from edgepose.frame import Frame
from edgepose.ground import WorldPlaces
from edgepose.person import Person
from edgepose.pipeline.inference_thread import TURN_S, InferenceResult, log_failure
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import FrameResult
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from edgepose.recorder.black_box import BlackBox
    from edgepose.recorder.format import FrameRecord

_log = logging.getLogger(__name__)

_LOWEST_SCORE = 0.05  # of candidates that the black box keeps, so that a replay can try lower thresholds

Deliver = Callable[[FrameResult], None]
"""A receiver of the result of a frame; it must not block for live frames."""

TakePeople = Callable[[Frame, Sequence[Person]], None]
"""A receiver of a frame and the people in it."""


class _Settings(msgspec.Struct, frozen=True, eq=False):
    config: Config
    refiner: Refiner | None


class PostprocessThread(SupervisedThread):
    """The thread that processes inference results in order, with one `Postprocessor` per camera."""

    def __init__(
        self,
        config: Config,
        inferred: "queue.Queue[InferenceResult | None]",
        metrics: Metrics,
        deliver: Deliver,
        refiner: Refiner | None,
        *,
        stuck_after_s: float,
        forever: bool,
        box: "BlackBox | None" = None,
        frame_waits: Callable[[], bool] | None = None,
        flight: FlightService | None = None,
    ) -> None:
        """
        Args:
            inferred: results of the inference thread; None ends the work.
            deliver: receives the result of each frame.
            refiner: opened; closed by this thread when another one replaces it, and by `close`.
            stuck_after_s: longest turn, in seconds, before the thread counts as stuck.
            forever: whether the work restarts after an unexpected error.
            box: records each frame.
            frame_waits: returns whether a live frame waits, for which an adaptive refinement ends; None where none is lost by waiting.
            flight: places people on the ground; None where nobody is placed.
        """
        super().__init__("postprocess", stuck_after_s, restart=forever)
        self._inferred = inferred
        self._metrics = metrics
        self._deliver = deliver
        self._wanted = _Settings(config, refiner)  # written by the main thread
        self._used = self._wanted
        self._retired: deque[Refiner] = deque()
        self._box = box
        self._frame_waits = frame_waits
        self._flight = flight
        self._cameras: dict[str, Postprocessor] = {}
        self.known_people: dict[str, list[Person]] = {}
        """People of the last frame by camera; read by the inference thread, which visits tiles with small people first."""
        self._taps: dict[str, TakePeople] = {}
        self._failing = False  # since the last frame: a failure is logged once until a frame works again

    @property
    def refiner(self) -> Refiner | None:
        """The refiner in use from the next frame on."""
        return self._wanted.refiner

    def configure(self, config: Config, refiner: Refiner | None) -> None:
        """Apply other settings from the next frame on; a refiner that is no longer used is closed then."""
        before = self._wanted.refiner
        self._wanted = _Settings(config, refiner)
        if before is not None and before is not refiner:
            self._retired.append(before)

    def tap_people(self, camera: str, take: TakePeople) -> None:
        """Pass the next frame of a camera and its people to `take` too, in this thread."""
        self._taps[camera] = take

    def close(self) -> None:
        """Free the refiners, once the thread has ended."""
        self._close_retired()
        if self._wanted.refiner is not None:
            self._wanted.refiner.close()

    def work(self) -> None:
        """Postprocess until the inference thread has no more results."""
        self._used = self._wanted
        self._cameras = {}
        self._failing = False
        if self._box is not None:
            self._box.begin()
            self._box.configure(self._used.config, self._places())
        while not self.ending.is_set():
            self.heartbeat.beat()
            self._adopt_settings()
            try:
                inferred = self._inferred.get(timeout=TURN_S)
            except queue.Empty:
                continue
            if inferred is None:
                return
            self._turn(inferred)

    def _turn(self, inferred: InferenceResult) -> FrameResult | None:
        """Postprocess, deliver and record one frame, and count the outcome; None where it is stale or fails."""
        frame = inferred.queued.prepared.frame
        if self._is_stale(inferred):
            self._metrics.dropped(frame.camera, "stale")
            return None
        postprocessor = self._postprocessor(frame.camera)
        snapshot = self._wanted_snapshot(frame.camera, postprocessor)
        try:
            result = self._result(inferred, postprocessor)
            with self._metrics.timed("publish"):
                self._deliver(result)
            if (tap := self._taps.pop(frame.camera, None)) is not None:
                tap(frame, result.people)
        except Exception as error:
            self._fail(frame, error, postprocessor)
            self._record(inferred, postprocessor, inferred.queued.prepared.now_ns(), snapshot, failed=True)
            return None
        self._failing = False
        self._record(inferred, postprocessor, result.at_ns, snapshot, failed=False)
        self._count(result, inferred)
        return result

    def _result(self, inferred: InferenceResult, postprocessor: Postprocessor) -> FrameResult:
        prepared = inferred.queued.prepared
        people = postprocessor.people(prepared, inferred.candidates, visited=inferred.visited)
        self.known_people[prepared.frame.camera] = people
        at_ns = prepared.now_ns()
        stale, live, occupancy = self._is_stale(inferred), inferred.queued.live, postprocessor.occupancy
        aircraft = postprocessor.aircraft
        if aircraft is not None and self._flight is not None:
            self._flight.tell_people(prepared.frame.camera, aircraft, people)
        return FrameResult(prepared.frame, people, postprocessor.events, at_ns, live, stale, occupancy, inferred.looks, aircraft)

    def _fail(self, frame: Frame, error: Exception, postprocessor: Postprocessor) -> None:
        if not self._failing:
            log_failure(f"frame {frame.sequence} of camera {frame.camera} could not be postprocessed", error)
        self._failing = True
        self._metrics.dropped(frame.camera, "pose_failed")
        postprocessor.reset()

    def _count(self, result: FrameResult, inferred: InferenceResult) -> None:
        frame = result.frame
        if result.stale:
            self._metrics.dropped(frame.camera, "stale")
            return
        age_s = (inferred.queued.prepared.now_ns() - frame.captured_at_ns) / 1e9 if result.live else None
        self._metrics.published(frame.camera, len(result.people), age_s)

    def _is_stale(self, inferred: InferenceResult) -> bool:
        return inferred.queued.stale(self._used.config.mqtt.pose_expiry_s)

    def _postprocessor(self, camera: str) -> Postprocessor:
        if camera not in self._cameras:
            self._cameras[camera] = Postprocessor(
                camera, self._used.config, self._metrics, self._used.refiner, self._frame_waits, flight=self._flight
            )
        return self._cameras[camera]

    def _wanted_snapshot(self, camera: str, postprocessor: Postprocessor) -> bytes | None:
        """Return the state before a frame where the black box needs it to start a segment."""
        if self._box is None or not self._box.wants_snapshot(camera):
            return None
        return postprocessor.snapshot()

    def _record(self, inferred: InferenceResult, postprocessor: Postprocessor, at_ns: int, snapshot: bytes | None, *, failed: bool) -> None:
        if self._box is not None:
            self._box.add(frame_record(inferred, postprocessor, self._used.config, at_ns, failed=failed, snapshot=snapshot))

    def _adopt_settings(self) -> None:
        wanted = self._wanted
        if wanted is self._used:
            return
        self._cameras = {camera: each for camera, each in self._cameras.items() if camera in wanted.config.cameras}
        for postprocessor in self._cameras.values():
            postprocessor.configure(wanted.config, wanted.refiner)
        if self._box is not None:
            self._box.configure(wanted.config, self._places())
        self._close_retired()
        self._used = wanted

    def _places(self) -> WorldPlaces:
        return WorldPlaces() if self._flight is None else self._flight.places

    def _close_retired(self) -> None:
        while self._retired:
            self._retired.popleft().close()


def frame_record(
    inferred: InferenceResult, postprocessor: Postprocessor, config: Config, at_ns: int, *, failed: bool, snapshot: bytes | None
) -> "FrameRecord":
    """Return the record of a frame.

    Args:
        postprocessor: after the frame.
        config: in use; candidates below all of its thresholds are left out.
        at_ns: end of postprocessing, nanoseconds since the Unix epoch.
        failed: whether postprocessing or delivery failed.
        snapshot: state before the frame, for the first frame of a camera in a segment.
    """
    from edgepose.recorder.format import FrameRecord, PackedPeople, packed_candidates

    prepared = inferred.queued.prepared
    frame = prepared.frame
    return FrameRecord(
        camera=frame.camera,
        epoch=frame.epoch,
        sequence=frame.sequence,
        captured_at_ns=frame.captured_at_ns,
        clock=frame.clock,
        width=frame.width,
        height=frame.height,
        letterbox=astuple(prepared.letterbox),
        **packed_candidates(inferred.candidates, min(_LOWEST_SCORE, config.pose.score_threshold, config.track.low_score_threshold)),
        visited=None if inferred.visited is None else [(tile.left, tile.top, tile.right, tile.bottom) for tile in inferred.visited],
        motion=None if postprocessor.motion is None or postprocessor.motion.still else postprocessor.motion.values,
        refined=PackedPeople.of(postprocessor.refined) if postprocessor.refined is not None else None,
        at_ns=at_ns,
        failed=failed,
        snapshot=snapshot,
        telemetry=postprocessor.telemetry,
    )
