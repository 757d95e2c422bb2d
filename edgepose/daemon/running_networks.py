"""The networks that a daemon runs: how they were chosen, how they are opened, and how better ones take their place."""

import logging
from typing import TYPE_CHECKING

from edgepose.config.schema import Config, ModelConfig
from edgepose.daemon.info import refiner_message
from edgepose.engine.backend import Backend, Network, open_backend, pose_model, reopen
from edgepose.engine.early_opening import EarlyOpening
from edgepose.engine.selection import Selection, select, with_settings
from edgepose.errors import EdgeposeError
from edgepose.model.file import ModelFile
from edgepose.pipeline.refiner import Refiner
from edgepose.telemetry.metrics import Metrics

if TYPE_CHECKING:  # most machines build no engines
    from edgepose.daemon.engine_upgrade import EngineUpgrade, Upgraded
    from edgepose.engine.tensorrt.build import BuildProgress

_log = logging.getLogger(__name__)


class RunningNetworks:
    """The pose network and the refiner of a daemon. All is for the main thread, apart from `open`.

    Attributes:
        selection: of the backends.
        model: of the pose network.
        refiner: None where nobody is refined.
    """

    def __init__(self, config: Config, metrics: Metrics, early: EarlyOpening | None = None) -> None:
        """Choose the backends and read the files.

        Args:
            config: to run.
            metrics: of the daemon.
            early: opening of the pose network, which has begun; None where it has not.

        Raises:
            ModelError: the model is missing or not a pose model, or the refiner is missing or not a refiner.
            ConfigError: the library of the configured backend is not installed.
            EngineError: the device of the configured backend is absent or not ready.
        """
        self._metrics = metrics
        self.selection = select(config)
        read = None if early is None else early.model(self.selection.now)
        self.model = read or pose_model(self.selection.now)
        self.refiner = Refiner.configured(with_settings(config, self.selection.now), metrics)
        self._upgrade: EngineUpgrade | None = None
        self._early = early
        self._opened_before = False
        self._announced: list[Network] = []
        self._degraded_to: ModelFile | None = None  # set by the inference thread when it had to open another file

    @property
    def progress(self) -> "BuildProgress | None":
        """How far the build of a better engine is; None where there is none."""
        return None if self._upgrade is None else self._upgrade.progress

    def open(self) -> Backend:
        """Open the pose network; from the inference thread after several failures in a row, and then on the CPU where the device is lost.

        Raises:
            EngineError: no backend could be opened.
        """
        settings = self.selection.now
        if not self._opened_before:
            self._opened_before = True
            early, self._early = self._early, None
            if early is not None:
                return early.open(self.model, settings)
            return open_backend(self.model, settings, build=False)
        model = self.model

        def open_with(changed: ModelConfig) -> Backend:
            nonlocal model
            model = self.model if changed is settings else pose_model(changed)
            return open_backend(model, changed, build=False)

        backend = reopen(open_with, settings)
        if model is not self.model:
            self._degraded_to = model
        return backend

    def changed(self, networks: list[Network]) -> bool:
        """Return whether other networks run than at the last call; `model` is the one that runs.

        Args:
            networks: of the pipeline.
        """
        degraded, self._degraded_to = self._degraded_to, None
        if degraded is not None:
            self.model = degraded
        changed = degraded is not None or networks != self._announced
        self._announced = networks
        return changed

    def log(self, backend: Backend) -> None:
        """Log what runs the pose network, and why nothing better does."""
        reason = "; ".join(part for part in (backend.reason, self.selection.why) if part)
        _log.info("model %s on %s (%s, %s): %s", self.model.path.name, backend.name, backend.device, backend.precision, reason)

    def log_refiner(self, config: Config) -> None:
        """Log what runs the refiner, where people are refined."""
        refiner = refiner_message(config, self.refiner)
        if refiner is not None:
            where = refiner.backend
            _log.info("refiner %s on %s (%s, %s): %s", refiner.name, where.name, where.device, where.precision, where.reason)

    def begin_upgrade(self, config: Config) -> None:
        """Build the engines that are wanted and missing, in the background."""
        if self.selection.wanted is not None:
            from edgepose.daemon.engine_upgrade import EngineUpgrade

            self._upgrade = EngineUpgrade(with_settings(config, self.selection.wanted), self._metrics)
            self._upgrade.start()

    def follow_upgrade(self) -> "BuildProgress | Upgraded | EdgeposeError | None":
        """Return how far the build is, once what it opened or why it failed, and None where nothing is built.

        What it opened is in use from now on.
        """
        upgrade = self._upgrade
        if upgrade is None:
            return None
        if upgrade.is_alive():
            return upgrade.progress
        self._upgrade = None
        if upgrade.upgraded is None:
            failure = upgrade.failure or EdgeposeError("the build ended without a result")
            if not self.selection.by_name:
                self.selection = Selection(self.selection.now, why=f"tensorrt is not used: {failure}")
                _log.error("%s", self.selection.why)
            return failure
        self.selection = Selection(upgrade.upgraded.config.model)
        self.model, self.refiner = upgrade.upgraded.model, upgrade.upgraded.refiner
        return upgrade.upgraded

    def exchange(self, selection: Selection, model: ModelFile, refiner: Refiner | None) -> bool:
        """Use what a reload opened; return whether the backends were chosen anew, which ends a build."""
        reselected, self.selection = selection != self.selection, selection
        self.model, self.refiner = model, refiner
        if reselected:
            self.abandon_upgrade()
        return reselected

    def abandon_upgrade(self) -> None:
        """End a build without a result."""
        if self._upgrade is not None:
            self._upgrade.abandon()
            self._upgrade = None
