"""From a model file to the bytes of an engine: parse, profile, build."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgepose.engine.tensorrt.library import LibraryLog, LogSink, TensorRtLibrary
from edgepose.errors import ConfigError, EngineError, ModelError
from edgepose.model.file import ModelFile

_log = logging.getLogger(__name__)

MAXIMUM_BATCH = 8
"""Images, tiles or crops in one call; more are run in several."""

_LEAST_WORKSPACE, _MOST_WORKSPACE = 64 << 20, 1 << 30  # bytes; a network of this size needs little, and a 4 GB board has little
_WORKSPACE_SHARE = 4  # of the free memory
_TRIES = 3  # each with a quarter of the workspace of the one before
_REPORT_S = 0.2  # between two reports of one phase


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is.

    Attributes:
        percent: of the whole, 0 to 100; it does not fall.
        phase: what is done now, in the library's words.
    """

    percent: float
    phase: str


ReportProgress = Callable[[BuildProgress], None]


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that an engine accepts, (N, H, W) each.

    Attributes:
        least, best, most: the smallest input, the one it is tuned for, and the largest.
    """

    least: tuple[int, int, int]
    best: tuple[int, int, int]
    most: tuple[int, int, int]

    @classmethod
    def of(cls, model: ModelFile, input_size: int) -> "Profile":
        """Return the shapes that a network is used with.

        Args:
            input_size: `model.input_size` of a pose network; a refiner has its own.

        Raises:
            ModelError: the size does not fit the network.
        """
        info = model.info
        batch = info.batch or MAXIMUM_BATCH
        least = info.batch or 1
        if info.input_height is not None and info.input_width is not None:
            height, width = info.input_height, info.input_width
            return cls((least, height, width), (least, height, width), (batch, height, width))
        long_px = info.long_side(input_size)
        short_px = max(1, round(long_px * 9 / 16 / info.stride)) * info.stride
        # The short side follows the camera's aspect, and a camera may stand upright.
        return cls((least, info.stride, info.stride), (least, short_px, long_px), (batch, long_px, long_px))

    @property
    def words(self) -> str:
        """All three shapes, as a part of the cache's key."""
        return ",".join("x".join(map(str, shape)) for shape in (self.least, self.best, self.most))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What an engine is built from.

    Attributes:
        model: the file.
        profile: its shapes.
        free_bytes: free memory of the device; 0 where unknown.
        dla: whether it runs on a DLA core.
        timing_cache: of earlier builds by the same library on the same device; empty for none.
    """

    model: ModelFile
    profile: Profile
    free_bytes: int = 0
    dla: bool = False
    timing_cache: bytes = b""


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A built engine.

    Attributes:
        plan: its bytes.
        timing_cache: what the build measured; empty where the library keeps none.
        took_s: seconds.
    """

    plan: bytes
    timing_cache: bytes
    took_s: float


def build_engine(
    library: TensorRtLibrary, request: BuildRequest, report: ReportProgress = lambda progress: None, sink: LogSink | None = None
) -> BuiltEngine:
    """Build an engine; with less and less workspace where memory is short.

    Args:
        report: called about five times a second, from the library's thread.
        sink: receives everything that the library logs.

    Raises:
        ModelError: the library does not take the file.
        ConfigError: `model.dla` is set, and there is no DLA core that takes it.
        EngineError: the build failed, mostly because memory is short.
    """
    workspace = min(_MOST_WORKSPACE, max(_LEAST_WORKSPACE, request.free_bytes // _WORKSPACE_SHARE))
    started_s = time.monotonic()
    for attempt in range(_TRIES):
        log = LibraryLog(library, sink)
        plan, timings = _build_once(library, request, log, workspace, report)
        if plan is not None:
            return BuiltEngine(plan, timings, time.monotonic() - started_s)
        short, words = log.lacks_memory, log.words()
        if not short or attempt == _TRIES - 1:
            what = "memory is short" if short else "the build failed"
            raise EngineError(f"{library.words} built no engine of {request.model.path.name}: {what} ({words})")
        _log.warning("the build of %s had too little memory with %d MiB; trying with less", request.model.path.name, workspace >> 20)
        workspace //= 4
    raise AssertionError("not reached")


def _build_once(
    library: TensorRtLibrary, request: BuildRequest, log: LibraryLog, workspace: int, report: ReportProgress
) -> tuple[bytes | None, bytes]:
    """Return the plan, None where the library built none, and the timing cache."""
    trt, path = library.module, request.model.path
    builder = log.make("Builder")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(request.model.data):
        found = [_parser_error(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ModelError(f"{library.words} does not take {path}: {'; '.join(found[:3]) or log.words()}")
    config = builder.create_builder_config()
    _add_profile(builder, network, config, request, library)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.dla:
        _use_dla(trt, builder, network, config, library)
    keeps_timings = library.name == "tensorrt"  # in TensorRT for RTX they do nothing
    if keeps_timings:
        config.set_timing_cache(config.create_timing_cache(request.timing_cache), False)
    monitor = _monitor(trt, _Phases(report))
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    timings = bytes(config.get_timing_cache().serialize()) if keeps_timings and plan is not None else b""
    return (None if plan is None else bytes(plan)), timings


def _add_profile(builder: Any, network: Any, config: Any, request: BuildRequest, library: TensorRtLibrary) -> None:
    tensor = network.get_input(0)
    shape = tuple(tensor.shape)  # -1 where the file leaves it open
    nhwc = request.model.info.layout == "edgepose"

    def full(part: tuple[int, int, int]) -> tuple[int, ...]:
        count, height, width = part
        return (count, height, width, 3) if nhwc else (count, 3, height, width)

    if all(size >= 0 for size in shape):
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, *(full(part) for part in (request.profile.least, request.profile.best, request.profile.most)))
    if config.add_optimization_profile(profile) < 0:
        raise ModelError(f"{library.words} refuses inputs of {request.profile.words} for {request.model.path}, whose input is {shape}")


def _use_dla(trt: Any, builder: Any, network: Any, config: Any, library: TensorRtLibrary) -> None:
    """Put the network on a DLA core; ConfigError where there is none, or where it does not take a quantized layer."""
    cores = int(builder.num_DLA_cores)
    if cores < 1:
        raise ConfigError(f"model.dla is true, but {library.words} reports no DLA core on this device; expected model.dla: false")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = 0
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    kinds = (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE, trt.LayerType.CONVOLUTION)
    layers = [layer for index in range(network.num_layers) if (layer := network.get_layer(index)).type in kinds]
    refused = [layer.name for layer in layers if not config.can_run_on_DLA(layer)]
    if refused:
        raise ConfigError(
            f"model.dla is true, but {library.words} runs {len(refused)} of {len(layers)} quantized layers and convolutions on no DLA core"
            f" (such as {refused[0]}); expected model.dla: false"
        )


def _parser_error(error: Any) -> str:
    name = str(error.node_name() or "")
    return f"{error.desc()}{f' at {name}' if name else ''} ({error.node_operator() or 'file'})"


class _Phases:
    """Percent of the whole from nested phases, each with a number of steps."""

    def __init__(self, report: ReportProgress) -> None:
        self._report = report
        self._open: dict[str, tuple[str | None, int, int]] = {}  # parent, steps, done
        self._percent = 0.0
        self._reported_s = -1.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._open[name] = (parent if parent in self._open else None, max(1, steps), 0)
        self._tell(name, True)

    def step(self, name: str, step: int) -> None:
        if name in self._open:
            parent, steps, _ = self._open[name]
            self._open[name] = (parent, steps, min(steps, step + 1))
            self._tell(name, False)

    def finish(self, name: str) -> None:
        self._open.pop(name, None)

    def _share(self, name: str) -> float:
        """Return the share of the whole that is done, counted from an open phase upwards."""
        parent, steps, done = self._open[name]
        inner = done / steps
        while parent is not None:
            name, (parent, steps, done) = parent, self._open[parent]
            inner = min(1.0, (done + inner) / steps)
        return inner

    def _tell(self, name: str, new: bool) -> None:
        now_s = time.monotonic()
        if not new and now_s - self._reported_s < _REPORT_S:
            return
        self._reported_s = now_s
        self._percent = max(self._percent, 100 * self._share(name))
        self._report(BuildProgress(self._percent, name))


def _monitor(trt: Any, phases: _Phases) -> Any:
    base = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        """The library's reports, which it may make from several threads of its own."""

        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Take the begin of a phase."""
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Take a step; False would cancel the build."""
            phases.step(phase_name, step)
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Take the end of a phase."""
            phases.finish(phase_name)

    return Monitor()
