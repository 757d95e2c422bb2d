"""A better backend while the daemon runs: engines are built beside it, opened, and handed over between two frames."""

import logging
import threading
from dataclasses import dataclass

from edgepose.config.schema import Config
from edgepose.engine.backend import Backend, log_progress, open_backend
from edgepose.engine.selection import tensorrt_models
from edgepose.engine.tensorrt.build import BuildProgress
from edgepose.engine.tensorrt.building import EngineBuilder
from edgepose.errors import EdgeposeError
from edgepose.model.file import ModelFile
from edgepose.pipeline.refiner import Refiner
from edgepose.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Upgraded:
    """What an upgrade opened.

    Attributes:
        config: in use when it began, with the backend that was wanted.
        model: of the pose network.
        backend: open.
        refiner: open; None where nobody is refined.
    """

    config: Config
    model: ModelFile
    backend: Backend
    refiner: Refiner | None

    def close(self) -> None:
        """Free everything, where it is not used."""
        self.backend.close()
        if self.refiner is not None:
            self.refiner.close()


class EngineUpgrade(threading.Thread):
    """A thread that builds the engines of a configuration in another process, and opens them.

    Attributes:
        progress: how far it is.
        upgraded: the result; None until then, and where it failed.
        failure: why it failed.
    """

    def __init__(self, config: Config, metrics: Metrics) -> None:
        """
        Args:
            config: to run; its backend is that which is wanted, `tensorrt`.
            metrics: of the daemon.
        """
        super().__init__(name="engine-upgrade", daemon=True)
        self._config = config
        self._metrics = metrics
        self._models = tensorrt_models(config)
        self._builder = EngineBuilder(self._models, config.model)
        self._ended = threading.Lock()
        self._abandoned = False
        self.progress = BuildProgress(0, "starting")
        self.upgraded: Upgraded | None = None
        self.failure: EdgeposeError | None = None

    def run(self) -> None:
        """Build and open; at the end `upgraded` or `failure` is set."""
        log = log_progress(" and ".join(model.path.name for model in self._models))

        def report(progress: BuildProgress) -> None:
            self.progress = progress
            log(progress)

        try:
            self._builder.run(report)
            self.progress = BuildProgress(100, "opening")
            upgraded = self._open()
        except EdgeposeError as error:
            self.failure = error
            return
        except Exception as error:  # an internal fault must not leave the daemon waiting
            self.failure = EdgeposeError(f"unexpected {type(error).__name__}: {error}")
            return
        with self._ended:
            if self._abandoned:
                upgraded.close()
            else:
                self.upgraded = upgraded

    def abandon(self) -> None:
        """End it without a result, now or when it is through; nothing stays open."""
        with self._ended:
            self._abandoned = True
            upgraded, self.upgraded = self.upgraded, None
        self._builder.stop()
        if upgraded is not None:
            upgraded.close()

    def _open(self) -> Upgraded:
        backend = open_backend(self._models[0], self._config.model, build=False)
        try:
            refiner = Refiner.configured(self._config, self._metrics)
            if refiner is not None:
                refiner.open()
        except EdgeposeError:
            backend.close()
            raise
        return Upgraded(self._config, self._models[0], backend, refiner)
