"""Pose networks and refiners in TensorRT, and how they are opened: from the cache, or built first.

Building takes minutes and much memory, so it happens in a process of its own (`edgepose.engine.tensorrt.building`) that runs
`build_into_cache` here. A daemon does not wait for it (`edgepose.daemon.engine_upgrade`).
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.config import schema
from edgepose.engine.device_memory import DeviceInfo, DeviceMemory, open_device_memory
from edgepose.engine.engine_cache import BuildState, EngineCache, EngineKey, default_folder
from edgepose.engine.golden import GoldenResult, check_pose_network, check_refiner
from edgepose.engine.networks import LoadedNetwork, PoseNetwork, RefinerNetwork
from edgepose.engine.tensorrt.build import BuildProgress, BuildRequest, Profile, ReportProgress, build_engine
from edgepose.engine.tensorrt.library import TensorRtLibrary, load_library
from edgepose.engine.tensorrt.runner import TensorRtRunner
from edgepose.errors import EdgeposeError, EngineError
from edgepose.model.file import ModelFile

_log = logging.getLogger(__name__)


class _TensorRtNetwork(LoadedNetwork):
    """A network in one TensorRT engine."""

    def __init__(self, model: ModelFile, runner: TensorRtRunner, *, name: str, device: str, reason: str) -> None:
        super().__init__(model, name=name, device=device, reason=reason)
        self._runner = runner
        if np.issubdtype(runner.input_type, np.floating):
            self._input_type = runner.input_type.type

    def close(self) -> None:
        """Free the engine; idempotent."""
        self._runner.close()

    def _batch_limit(self) -> int | None:
        return self._runner.maximum_batch

    def _compute(self, outputs: Sequence[str], tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        missing = [name for name in outputs if name not in self._runner.output_names]
        if missing:
            raise EngineError(f"the engine has no output {missing[0]}; expected {', '.join(outputs)}")
        return [array.astype(np.float32, copy=False) for array in self._runner.run(tensor, outputs)]


class TensorRtBackend(_TensorRtNetwork, PoseNetwork):
    """A pose network in one TensorRT engine."""


class TensorRtRefinerBackend(_TensorRtNetwork, RefinerNetwork):
    """A refiner in one TensorRT engine."""


class TensorRtDevice:
    """TensorRT on the device of this machine, with its cache of engines.

    Attributes:
        library: loaded.
        memory: of the device.
        info: the device.
        cache: its engines.
    """

    def __init__(self, settings: schema.ModelConfig) -> None:
        """Load the library and open the device.

        Raises:
            ConfigError: a library is not installed or cannot be loaded; what to install.
            EngineError: the device is absent or busy, or its driver is not ready.
        """
        self.library: TensorRtLibrary = load_library()
        self.memory: DeviceMemory = open_device_memory()
        self.info: DeviceInfo = self.memory.device()
        self.cache = EngineCache(Path(settings.engines) if settings.engines else default_folder())
        self._settings = settings

    @property
    def words(self) -> str:
        """The device in words."""
        return f"{self.info.name}, compute capability {self.info.compute_capability}, driver {self.info.driver}, {self.memory.library}"

    def key(self, model: ModelFile) -> EngineKey:
        """Return what the engine of a file depends on."""
        return EngineKey(
            name=model.path.stem,
            model=model.sha256,
            library=self.library.words,
            device=self.info.name,
            compute_capability=self.info.compute_capability,
            driver=self.info.driver,
            profile=self._profile(model).words,
            dla=self._settings.dla,
        )

    def is_built(self, model: ModelFile) -> bool:
        """Return whether the cache has the engine of a file, whole; it is read for that."""
        return self.cache.load(self.key(model)) is not None

    def works(self, model: ModelFile) -> bool:
        """Return whether the cache has the engine of a file, and it runs: it is loaded and run once for that.

        Raises:
            EngineError: the device does not run it, mostly because memory is short.
        """
        network = self.open_cached(model, "a trial")
        if network is None:
            return False
        _warm_up(network, model, self._settings)
        network.close()
        return True

    def open(self, model: ModelFile, plan: bytes, reason: str) -> TensorRtBackend | TensorRtRefinerBackend:
        """Load an engine.

        Raises:
            EngineError: the library refuses it.
        """
        kind = TensorRtBackend if model.info.task == "pose" else TensorRtRefinerBackend
        runner = TensorRtRunner(self.library, self.memory, plan)
        return kind(model, runner, name=self.library.name.replace("_", "-"), device=f"{self.info.name}, cuda:0", reason=reason)

    def build_into_cache(
        self, model: ModelFile, report: ReportProgress = lambda progress: None, *, golden: bool = True, force: bool = False
    ) -> bool:
        """Build the engine of a file, check it and keep it, unless the cache has it; wait where another process does that.

        Args:
            golden: whether to compare what it finds; only tests without a device leave that out.
            force: whether to build it again.

        Returns:
            Whether it was built here.

        Raises:
            ModelError: the library does not take the file, or the engine finds other people than ONNX Runtime.
            ConfigError: `model.dla` is refused.
            EngineError: the build failed, mostly because memory is short.
            OutputError: the engine cannot be kept.
        """
        key = self.key(model)
        if not force and self.cache.load(key) is not None:
            return False

        def waiting(state: BuildState) -> None:
            report(BuildProgress(state.percent, state.phase or "another process builds"))

        with self.cache.locked(key, waiting) as notes:
            if not force and self.cache.load(key) is not None:  # the other process has done it
                return False

            def both(progress: BuildProgress) -> None:
                notes.write(BuildState(round(progress.percent, 1), progress.phase))
                report(progress)

            timings = self.cache.timings(key)
            with self.memory.current():
                free_bytes = self.memory.free_bytes()
            request = BuildRequest(model, self._profile(model), free_bytes, self._settings.dla, self.cache.load(timings) or b"")
            _log.info("building the engine of %s with %s for %s", model.path.name, self.library.words, self.words)
            built = build_engine(self.library, request, both)
            verified = "not compared"
            if golden:
                both(BuildProgress(100, "comparing"))
                verified = self._compare(model, built.plan).words
            self.cache.store(key, built.plan, verified)
            if built.timing_cache:
                self.cache.store(timings, built.timing_cache, "")
        _log.info("the engine of %s was built in %.0f s: %s", model.path.name, built.took_s, verified)
        for stem in self.cache.prune(key):
            _log.info("removed the engine %s, which is of no use any more", stem)
        return True

    def open_cached(self, model: ModelFile, reason: str) -> TensorRtBackend | TensorRtRefinerBackend | None:
        """Load the engine of a file from the cache; None where there is none, or where the library refuses it, which removes it."""
        key = self.key(model)
        plan = self.cache.load(key)
        if plan is None:
            return None
        try:
            return self.open(model, plan, reason)
        except EngineError as error:
            with self.memory.current():
                free_bytes = self.memory.free_bytes()
            if free_bytes < 2 * len(plan):  # the engine is not at fault
                raise
            _log.warning("the engine of %s is built again: %s", model.path.name, error)
            self.cache.forget(key)
            return None

    def _compare(self, model: ModelFile, plan: bytes) -> GoldenResult:
        """Compare an engine with ONNX Runtime on the CPU; ModelError where they find different people."""
        from edgepose.engine.onnxruntime import OnnxRuntimeBackend, OnnxRuntimeRefinerBackend, open_onnxruntime

        with ExitStack() as opened:
            network = self.open(model, plan, "the golden check")
            opened.callback(network.close)
            reference = open_onnxruntime(model, schema.ModelConfig(backend="cpu", input_size=self._settings.input_size), exact=True)
            opened.callback(reference.close)
            if isinstance(network, TensorRtBackend):
                assert isinstance(reference, OnnxRuntimeBackend)
                return check_pose_network(network, reference, self._settings.input_size)
            assert isinstance(reference, OnnxRuntimeRefinerBackend)
            return check_refiner(network, reference)

    def _profile(self, model: ModelFile) -> Profile:
        return Profile.of(model, self._settings.input_size if model.info.task == "pose" else 0)


Prepare = Callable[[ModelFile], None]
"""Builds the engine of a file into the cache; raises what `TensorRtDevice.build_into_cache` raises."""


def open_tensorrt(
    model: ModelFile, settings: schema.ModelConfig, reason: str, build: Prepare | None = None
) -> TensorRtBackend | TensorRtRefinerBackend:
    """Open a pose network or a refiner from the cache of engines.

    Args:
        reason: why this backend was chosen.
        build: builds an engine that is missing or stale; None refuses that.

    Raises:
        ConfigError, EngineError: as of `TensorRtDevice`, and what building raises.
    """
    device = TensorRtDevice(settings)
    network = device.open_cached(model, reason)
    if network is None and build is not None:
        build(model)
        network = device.open_cached(model, reason)
    if network is None:
        raise EngineError(f"there is no engine of {model.path.name} in {device.cache.folder}; expected edgepose build-engine to have run")
    _warm_up(network, model, settings)
    return network


def _warm_up(network: TensorRtBackend | TensorRtRefinerBackend, model: ModelFile, settings: schema.ModelConfig) -> None:
    """Run once, so that the first frame does not wait; an engine that does not run is closed and is an EngineError."""
    info = model.info
    if isinstance(network, TensorRtRefinerBackend):
        height, width = info.crop_shape
    else:
        side_px = info.long_side(settings.input_size)
        height, width = info.input_height or side_px, info.input_width or side_px
    try:
        network.run(np.full((1, height, width, 3), 114, np.uint8))
    except EdgeposeError:
        network.close()
        raise
