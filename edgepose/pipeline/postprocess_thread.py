"""The thread that makes people of candidates and hands them on."""

import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass

from edgepose.config.schema import Config
from edgepose.person import Person
from edgepose.pipeline.inference_thread import TURN_S, InferenceResult, tell
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import FrameResult, Postprocessor
from edgepose.recorder.black_box import BlackBox
from edgepose.recorder.format import FrameRecord, PackedPeople, candidates_of
from edgepose.supervision.supervised_thread import SupervisedThread
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_LEAST_SCORE = 0.05  # of candidates that the black box keeps, for trials with lower thresholds

Deliver = Callable[[FrameResult], None]
"""Takes what came of a frame; it must not block for live ones."""


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    config: Config
    refiner: Refiner | None


class PostprocessThread(SupervisedThread):
    """Works out the people of each frame that the engine saw, with a memory of its own for each camera."""

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
        box: BlackBox | None = None,
    ) -> None:
        super().__init__("postprocess", stuck_after_s, restart=forever)
        self._seen = inferred
        self._metrics = metrics
        self._deliver = deliver
        self._wanted = _Settings(config, refiner)
        self._retired: deque[Refiner] = deque()
        self._box = box

    @property
    def refiner(self) -> Refiner | None:
        """The refiner in use, or soon so."""
        return self._wanted.refiner

    def configure(self, config: Config, refiner: Refiner | None) -> None:
        """Takes other settings, from the next frame on; a refiner that is not used any more is closed then."""
        before = self._wanted.refiner
        self._wanted = _Settings(config, refiner)
        if before is not None and before is not refiner:
            self._retired.append(before)

    def close(self) -> None:
        """Frees the refiners, once the thread has ended."""
        while self._retired:
            self._retired.popleft().close()
        if self._wanted.refiner is not None:
            self._wanted.refiner.close()

    def work(self) -> None:
        """The loop."""
        used = self._wanted
        stages: dict[str, Postprocessor] = {}
        failing = False
        if self._box is not None:
            self._box.begin()
        while not self.ending.is_set():
            self.heartbeat.beat()
            wanted = self._wanted
            if wanted is not used:
                stages = {camera: stage for camera, stage in stages.items() if camera in wanted.config.cameras}
                for stage in stages.values():
                    stage.configure(wanted.config, wanted.refiner)
                if self._box is not None:
                    self._box.configure(wanted.config)
                while self._retired:
                    self._retired.popleft().close()
                used = wanted
            try:
                inferred = self._seen.get(timeout=TURN_S)
            except queue.Empty:
                continue
            if inferred is None:
                return
            prepared = inferred.queued.prepared
            frame = prepared.frame
            stale_after_s = used.config.mqtt.pose_expiry_s
            if inferred.queued.stale(stale_after_s):
                self._metrics.dropped(frame.camera, "stale")
                continue
            stage = stages.setdefault(frame.camera, Postprocessor(used.config, self._metrics, used.refiner))
            memory = stage.memory() if self._box is not None and self._box.wants_memory(frame.camera) else None
            at, failed = prepared.now_ns(), True
            try:
                people = stage.people(prepared, inferred.candidates)
                at = prepared.now_ns()
                stale = inferred.queued.stale(stale_after_s)
                outcome = FrameResult(frame, people, stage.events, at, inferred.queued.live, stale)
                with self._metrics.timed("publish"):
                    self._deliver(outcome)
            except Exception as error:
                if not failing:
                    tell(f"the people of frame {frame.sequence} of camera {frame.camera} could not be worked out", error)
                failing = True
                self._metrics.dropped(frame.camera, "pose_failed")
                stage.reset()
                continue
            else:
                failed = False
            finally:
                if self._box is not None:
                    self._box.look(frame_record(inferred, stage.refined, used.config, at, failed=failed, memory=memory))
            failing = False
            if stale:
                self._metrics.dropped(frame.camera, "stale")
                continue
            age_s = (prepared.now_ns() - frame.captured_at) / 1e9 if inferred.queued.live else None
            self._metrics.published(frame.camera, len(people), age_s)


def frame_record(
    inferred: InferenceResult, refined: list[Person] | None, config: Config, at: int, *, failed: bool, memory: bytes | None
) -> FrameRecord:
    """The record of a frame.

    Args:
        looked: everybody after a second look, None where there was none.
        config: in use; candidates that it would never look at are left out.
        at: nanoseconds since the Unix epoch, when the people were worked out.
    """
    prepared = inferred.queued.prepared
    frame = prepared.frame
    return FrameRecord(
        camera=frame.camera,
        epoch=frame.epoch,
        sequence=frame.sequence,
        captured_at=frame.captured_at,
        clock=frame.clock,
        width=frame.width,
        height=frame.height,
        letterbox=astuple(prepared.letterbox),
        **candidates_of(inferred.candidates, min(_LEAST_SCORE, config.pose.score_threshold, config.track.low_score_threshold)),
        refined=PackedPeople.of(refined) if refined is not None else None,
        at=at,
        failed=failed,
        memory=memory,
    )
