"""The refiner in use: whom it refines, what a person costs, and what happens when it fails.

A refiner that fails loses no frame: the poses of the pose network are published, the failure is counted, and the refiner is opened
again after several failures in a row, then less and less often.

With an adaptive budget (`refine.budget_ms` 0) people are refined a few at a time, until a frame waits: a live frame that waits too long is
lost, and poses of every frame are worth more than better ones of some.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from edgepose.config.schema import Config, ModelConfig
from edgepose.engine.backend import RefinerBackend, open_refiner_backend, refiner_model, reopen
from edgepose.errors import EdgeposeError, EngineError
from edgepose.frame import Frame
from edgepose.model.file import ModelFile
from edgepose.person import Person
from edgepose.pose.refine.crop_turns import CropTurns
from edgepose.pose.refine.regions import RefineResult, refine_people
from edgepose.pose.refine.schedule import RefineSchedule, RefineTurn
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_FAILURES_BEFORE_REOPENING = 3
_REOPENING_LIMIT = 300  # opening a network takes as long as many frames
_COST_SHARE = 0.1  # of the newest measurement in the running mean, which thus covers about ten frames
_WARM_UP_RUNS = 2
_STEP_MS = 10.0  # of refinement between two checks whether a frame waits: a third of the time between two frames at 30 per second


class Refiner:
    """One refiner for all cameras; only the postprocess thread uses it once that runs.

    Attributes:
        model: the refiner's file, another one where the CPU has taken over.
        cost_ms: time that one person takes, a running mean; measured by `open`.
        network: the open backend; None before `open`, and while it cannot be reopened.
    """

    def __init__(self, model: ModelFile, open_network: Callable[[], RefinerBackend], metrics: Metrics) -> None:
        """
        Args:
            model: the refiner's file.
            open_network: opens the backend; called by `open`, and again after several failures in a row.
        """
        self.model = model
        self._open_network = open_network
        self._metrics = metrics
        self.network: RefinerBackend | None = None
        self.cost_ms = 0.0
        self._failures = 0
        self._reopen_after, self._reopen_at = _FAILURES_BEFORE_REOPENING, _FAILURES_BEFORE_REOPENING

    @classmethod
    def configured(cls, config: Config, metrics: Metrics) -> "Refiner | None":
        """Return the configured refiner, not yet open; None, without reading a file, where refinement is off.

        Raises:
            ModelError: the file is missing or no refiner.
        """
        if not config.refine.people:
            return None
        model = refiner_model(config.refine.path, config.model)
        opened = False

        def open_network() -> RefinerBackend:
            nonlocal opened
            if not opened:
                network = open_refiner_backend(model, config.model)
                opened = True
                return network
            return reopen(open_with, config.model)  # it has failed while it ran: where its device is lost, the CPU takes over

        def open_with(settings: ModelConfig) -> RefinerBackend:
            refiner.model = model if settings is config.model else refiner_model(config.refine.path, settings)
            return open_refiner_backend(refiner.model, settings, build=False)

        refiner = cls(model, open_network, metrics)
        return refiner

    def open(self) -> RefinerBackend:
        """Open the refiner, measure what a person costs, and return the backend, which has a name to report.

        Raises:
            EngineError: it could not be opened, or does not run.
        """
        network = self._open_network()
        crop = np.zeros((1, *self.model.info.crop_shape, 3), np.uint8)
        try:
            for _ in range(_WARM_UP_RUNS):  # the first one allocates memory, the last one is measured
                start_s = time.perf_counter()
                network.run(crop)
                self.cost_ms = (time.perf_counter() - start_s) * 1e3
        except EdgeposeError:
            if not getattr(network, "state", ""):
                network.close()
                raise
            _log.warning("unrefined poses are published until the refiner's server works")
        self.network = network
        self._metrics.refine_cost(self.cost_ms)
        return network

    def close(self) -> None:
        """Free the refiner."""
        if self.network is not None:
            self.network.close()
            self.network = None

    def people(
        self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule, frame_waits: Callable[[], bool] | None = None
    ) -> list[Person]:
        """Return the people of a frame in the same order, with those refined whose turn it is.

        Args:
            frame_waits: returns whether another frame waits, which ends the refinement of people who are not due; None where none is
                lost by waiting.
        """
        turn = schedule.turn(people, self.cost_ms)
        result = list(people)
        tried = agreed = refined = 0
        for chosen, schedule.turns.hurried in self._steps(turn, frame_waits):
            tried += len(chosen)
            schedule.refined([people[index] for index in chosen], self.cost_ms)
            results = self._refine(frame, [people[index] for index in chosen], schedule.turns)
            if results is None:
                break
            for index, better in zip(chosen, results, strict=True):
                result[index] = better.person
            refined += len(results)
            agreed += sum(better.agrees for better in results)
        self._metrics.refine_skipped(turn.available - tried)
        self._metrics.refined(agreed, refined - agreed)
        return result

    def _steps(self, turn: RefineTurn, frame_waits: Callable[[], bool] | None) -> Iterator[tuple[list[int], bool]]:
        """Yield the people to refine in one call each, and whether a frame waits: those who are due first, then others until one waits."""
        step, others = list(turn.due), list(turn.others)
        while True:
            waits = frame_waits is not None and frame_waits()
            if frame_waits is None:
                room = len(others)
            elif waits:
                room = 0
            else:
                room = max(0, max(1, int(_STEP_MS / max(self.cost_ms, 1e-3))) - len(step))
            step, others = step + others[:room], others[room:]
            if not step:
                return
            yield step, waits
            step = []

    def _refine(self, frame: Frame, people: Sequence[Person], turns: CropTurns) -> list[RefineResult] | None:
        """Return refined people; None, and counted, where that fails."""
        if self.network is None:
            self._failed("unavailable", len(people))
            return None
        start_s = time.perf_counter()
        try:
            results = refine_people(frame.image, people, self.model.info, self.network.run, turns)
        except Exception as error:
            if not self._failures:
                _log.error("refinement fails, unrefined poses are published: %s: %s", type(error).__name__, error)
            self._failed("refiner_failed" if isinstance(error, EngineError) else "internal", len(people))
            return None
        self._succeeded((time.perf_counter() - start_s) * 1e3 / len(people))
        return results

    def _succeeded(self, person_ms: float) -> None:
        self.cost_ms += _COST_SHARE * (person_ms - self.cost_ms)
        self._metrics.refine_cost(self.cost_ms)
        if self._failures:
            _log.info("the refiner works again after %d frames", self._failures)
        self._failures, self._reopen_after, self._reopen_at = 0, _FAILURES_BEFORE_REOPENING, _FAILURES_BEFORE_REOPENING

    def _failed(self, cause: str, people: int) -> None:
        self._metrics.refine_failed(cause, people)
        self._failures += 1
        if self._failures < self._reopen_at:
            return
        self._reopen_after = min(2 * self._reopen_after, _REOPENING_LIMIT)
        self._reopen_at = self._failures + self._reopen_after
        was_open = self.network is not None
        self.close()
        try:
            self.open()
        except EdgeposeError as error:
            if was_open:
                _log.error("the refiner cannot be reopened: %s; trying from time to time", error)
