"""The thread that makes people of candidates and hands them on."""

import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass

from edgepose.config.schema import Config
from edgepose.person import Person
from edgepose.pipeline.inference_thread import TURN_S, Seen, tell
from edgepose.pipeline.refiner import SecondLook
from edgepose.pipeline.stages import Outcome, PeopleStage
from edgepose.recorder.black_box import BlackBox
from edgepose.recorder.format import Look, People, candidates_of
from edgepose.supervision.supervised_thread import RestartingThread
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_LEAST_SCORE = 0.05  # of candidates that the black box keeps, for trials with lower thresholds

Deliver = Callable[[Outcome], None]
"""Takes what came of a frame; it must not block for live ones."""


@dataclass(frozen=True, slots=True, eq=False)
class _Settings:
    config: Config
    second_look: SecondLook | None


class PeopleLoop(RestartingThread):
    """Works out the people of each frame that the engine saw, with a memory of its own for each camera."""

    def __init__(
        self,
        config: Config,
        seen: "queue.Queue[Seen | None]",
        metrics: Metrics,
        deliver: Deliver,
        second_look: SecondLook | None,
        *,
        stuck_after_s: float,
        forever: bool,
        box: BlackBox | None = None,
    ) -> None:
        super().__init__("people", stuck_after_s, restart=forever)
        self._seen = seen
        self._metrics = metrics
        self._deliver = deliver
        self._wanted = _Settings(config, second_look)
        self._retired: deque[SecondLook] = deque()
        self._box = box

    @property
    def second_look(self) -> SecondLook | None:
        """The refiner in use, or soon so."""
        return self._wanted.second_look

    def configure(self, config: Config, second_look: SecondLook | None) -> None:
        """Takes other settings, from the next frame on; a refiner that is not used any more is closed then."""
        before = self._wanted.second_look
        self._wanted = _Settings(config, second_look)
        if before is not None and before is not second_look:
            self._retired.append(before)

    def close(self) -> None:
        """Frees the refiners, once the thread has ended."""
        while self._retired:
            self._retired.popleft().close()
        if self._wanted.second_look is not None:
            self._wanted.second_look.close()

    def work(self) -> None:
        """The loop."""
        used = self._wanted
        stages: dict[str, PeopleStage] = {}
        failing = False
        if self._box is not None:
            self._box.begin()
        while not self.ending.is_set():
            self.pulse.beat()
            wanted = self._wanted
            if wanted is not used:
                stages = {camera: stage for camera, stage in stages.items() if camera in wanted.config.cameras}
                for stage in stages.values():
                    stage.configure(wanted.config, wanted.second_look)
                if self._box is not None:
                    self._box.configure(wanted.config)
                while self._retired:
                    self._retired.popleft().close()
                used = wanted
            try:
                seen = self._seen.get(timeout=TURN_S)
            except queue.Empty:
                continue
            if seen is None:
                return
            prepared = seen.waiting.prepared
            frame = prepared.frame
            stale_after_s = used.config.mqtt.pose_expiry_s
            if seen.waiting.stale(stale_after_s):
                self._metrics.dropped(frame.camera, "stale")
                continue
            stage = stages.setdefault(frame.camera, PeopleStage(used.config, self._metrics, used.second_look))
            memory = stage.memory() if self._box is not None and self._box.wants_memory(frame.camera) else None
            at, failed = prepared.now_ns(), True
            try:
                people = stage.people(prepared, seen.candidates)
                at = prepared.now_ns()
                stale = seen.waiting.stale(stale_after_s)
                outcome = Outcome(frame, people, stage.events, at, seen.waiting.live, stale)
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
                    self._box.look(look_of(seen, stage.looked, used.config, at, failed=failed, memory=memory))
            failing = False
            if stale:
                self._metrics.dropped(frame.camera, "stale")
                continue
            age_s = (prepared.now_ns() - frame.captured_at) / 1e9 if seen.waiting.live else None
            self._metrics.published(frame.camera, len(people), age_s)


def look_of(seen: Seen, looked: list[Person] | None, config: Config, at: int, *, failed: bool, memory: bytes | None) -> Look:
    """The record of a frame.

    Args:
        looked: everybody after a second look, None where there was none.
        config: in use; candidates that it would never look at are left out.
        at: nanoseconds since the Unix epoch, when the people were worked out.
    """
    prepared = seen.waiting.prepared
    frame = prepared.frame
    return Look(
        camera=frame.camera,
        epoch=frame.epoch,
        sequence=frame.sequence,
        captured_at=frame.captured_at,
        clock=frame.clock,
        width=frame.width,
        height=frame.height,
        letterbox=astuple(prepared.letterbox),
        **candidates_of(seen.candidates, min(_LEAST_SCORE, config.pose.score_threshold, config.track.weak_score)),
        looked=People.of(looked) if looked is not None else None,
        at=at,
        failed=failed,
        memory=memory,
    )
