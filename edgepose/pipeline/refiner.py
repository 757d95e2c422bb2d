"""The refiner in use: whom it refines, what a person costs, and what happens when it fails.

A refiner that fails loses no frame: the poses of the pose network are published, the failure is counted, and the refiner is opened
again after several failures in a row, then less and less often.
"""

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from edgepose.config.schema import Config
from edgepose.engine.backend import RefinerBackend, open_refiner_backend, refiner_model
from edgepose.errors import EdgeposeError, EngineError
from edgepose.frame import Frame
from edgepose.model.file import ModelFile
from edgepose.person import Person
from edgepose.pose.refine_schedule import RefineSchedule
from edgepose.pose.regions import refine_people
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_FAILURES_BEFORE_REOPENING = 3
_REOPENING_LIMIT = 300  # opening a network takes as long as many frames
_COST_SHARE = 0.1  # of the newest measurement in the running mean, which thus covers about ten frames
_WARM_UP_RUNS = 2


class Refiner:
    """One refiner for all cameras; only the postprocess thread uses it once that runs.

    Attributes:
        model: the refiner's file.
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
        return cls(model, lambda: open_refiner_backend(model, config.model), metrics)

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
            network.close()
            raise
        self.network = network
        self._metrics.refine_cost(self.cost_ms)
        return network

    def close(self) -> None:
        """Free the refiner."""
        if self.network is not None:
            self.network.close()
            self.network = None

    def people(self, frame: Frame, people: Sequence[Person], schedule: RefineSchedule) -> list[Person]:
        """Return the people of a frame in the same order, with those refined whose turn it is."""
        chosen = schedule.choose(people, self.cost_ms)
        self._metrics.refine_skipped(len(people) - len(chosen))
        result = list(people)
        if not chosen:
            return result
        if self.network is None:
            self._failed("unavailable", len(chosen))
            return result
        start_s = time.perf_counter()
        try:
            results = refine_people(frame.image, [people[index] for index in chosen], self.model.info, self.network.run)
        except Exception as error:
            if not self._failures:
                _log.error("refinement fails, unrefined poses are published: %s: %s", type(error).__name__, error)
            self._failed("refiner_failed" if isinstance(error, EngineError) else "internal", len(chosen))
            return result
        self._succeeded((time.perf_counter() - start_s) * 1e3 / len(chosen))
        for index, refined in zip(chosen, results, strict=True):
            result[index] = refined.person
        agreed = sum(refined.agrees for refined in results)
        self._metrics.refined(agreed, len(results) - agreed)
        return result

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
