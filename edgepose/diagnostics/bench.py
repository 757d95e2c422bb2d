"""Benchmark of `edgepose bench`: the engine alone, the pipeline without capture, and the whole daemon, in turns in one run.

The engine computes on all cores, so a frame rate says little about the rest: the core time of the rest decides. It is the core time of the
daemon's threads, by their own clocks, without that of the networks' calls and of decoding, which is measured alone.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any, Literal

import numpy as np
from msgspec.structs import asdict, replace
from numpy.typing import NDArray

from edgepose.capture.pyav import PyAvSource
from edgepose.capture.redact import describe
from edgepose.capture.source import Source, open_source, path_of
from edgepose.config.schema import CameraConfig, Config
from edgepose.diagnostics.bench_result import BenchResult, BenchRound, BenchRow, LiveBenchResult, RefineBenchResult
from edgepose.diagnostics.bench_sources import MemorySource, bench_source, first_frames
from edgepose.diagnostics.fresh_process import measure_fresh_process
from edgepose.engine.backend import open_backend, pose_model, refiner_model
from edgepose.engine.selection import select, with_settings
from edgepose.frame import Frame
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from edgepose.model.file import ModelFile
from edgepose.pipeline.camera_thread import OpenCamera
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.pipeline import Pipeline
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.telemetry.metrics import Latency, Metrics

__all__ = ["BenchResult", "bench", "bench_source", "live_bench"]

_FRAMES = 24  # distinct frames that the engine alone runs on in turns, as varied as in the daemon but all in memory
_WARM_S = 0.5
_SAMPLES = 4096
_SETTLE_S, _SETTLE_ROUNDS = 5.0, 2.5  # of a fresh process, whose memory grows at first
_LIVE_SHARE = 0.5  # of the engine's rate, for all live cameras together


class _Encoder:
    """A stand-in for the MQTT publisher that encodes each message and discards it."""

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        encode(payload)

    def publish(self, address: str, payload: EventMessage, qos: Literal[0, 1]) -> None:
        encode(payload)


class _TimedNetwork:
    """A network whose calls are timed, by the wall clock and by the clock of the calling thread; anything else is the network's own."""

    def __init__(self, network: Any, spent: "_Spent") -> None:
        self._network, self._spent = network, spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def run(self, images: NDArray[np.uint8]) -> Any:
        wall_s, core_s = time.perf_counter(), time.thread_time()
        try:
            return self._network.run(images)
        finally:
            self._spent.add(time.perf_counter() - wall_s, time.thread_time() - core_s)


class _Spent:
    """Time in networks, of all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.wall_s = self.core_s = 0.0

    def add(self, wall_s: float, core_s: float) -> None:
        with self._lock:
            self.wall_s += wall_s
            self.core_s += core_s


class _Run:
    """A pipeline that runs, and what it has done since it was warm."""

    def __init__(
        self,
        config: Config,
        model: ModelFile,
        metrics: Metrics,
        open_camera: OpenCamera | None = None,
        *,
        warm_s: float = _WARM_S,
        forever: bool = False,
    ) -> None:
        self._metrics = metrics
        self._warm_s = warm_s
        self._cameras = list(config.cameras)
        self.spent = _Spent()
        refiner = Refiner.configured(config, metrics)
        if refiner is not None:
            open_network = refiner._open_network
            refiner._open_network = lambda: _TimedNetwork(open_network(), self.spent)
        self._pipeline = Pipeline(
            config,
            model.info,
            lambda: _TimedNetwork(open_backend(model, config.model), self.spent),
            metrics,
            Delivery(_Encoder(), [], metrics).deliver,
            lambda _: None,
            refiner=refiner,
            forever=forever,
            open_camera=open_camera,
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run, and start to count once it is warm; a failure of the pipeline is raised at the end."""
        self._pipeline.open()
        self._pipeline.start()
        try:
            time.sleep(self._warm_s)
            self._before = self._state()
            yield
            self._after = self._state()
        finally:
            self._pipeline.stop(2)
        if self._pipeline.failure is not None:
            raise self._pipeline.failure

    def wait(self, seconds: float) -> None:
        """Wait until the time is over, or the pipeline has ended."""
        until_s = time.perf_counter() + seconds
        while (left_s := until_s - time.perf_counter()) > 0 and not self._pipeline.finished():
            time.sleep(min(0.05, left_s))

    @property
    def frames(self) -> int:
        """Frames published while it was measured."""
        return max(1, sum(self.published.values()))

    @property
    def published(self) -> dict[str, int]:
        """Frames published by camera."""
        return {name: self._after[3][name] - self._before[3][name] for name in self._cameras}

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / (self._after[0] - self._before[0])

    @property
    def core_ms(self) -> float:
        """Core milliseconds of the process for a frame."""
        return (self._after[5] - self._before[5]) / self.frames * 1e3

    @property
    def networks_s(self) -> float:
        """Seconds in networks for a frame."""
        return (self._after[1] - self._before[1]) / self.frames

    def outside_ms(self) -> float:
        """Return core milliseconds of the daemon's threads for a frame, without the networks' calls."""
        threads = sum(self.thread_ms().values())
        return threads - (self._after[2] - self._before[2]) / self.frames * 1e3

    def thread_ms(self) -> dict[str, float]:
        """Return core milliseconds for a frame by thread."""
        before, after = self._before[4], self._after[4]
        return {name: (seconds - before.get(name, 0.0)) / self.frames * 1e3 for name, seconds in after.items()}

    def _state(self) -> tuple[float, float, float, dict[str, int], dict[str, float], float]:
        published = {name: self._metrics.camera(name).published for name in self._cameras}
        return time.perf_counter(), self.spent.wall_s, self.spent.core_s, published, _core_s(), time.process_time()


class _Bench:
    """The measurements of one row."""

    def __init__(self, config: Config, model: ModelFile, frames: Sequence[Frame], seconds: float) -> None:
        self._seconds, self._warm_s = seconds, min(_WARM_S, seconds)
        self.config, self._model, self._frames = config, model, frames
        self.metrics = Metrics(_SAMPLES)  # by the wall clock
        self._core = Metrics(_SAMPLES, time.thread_time)
        self.rounds: list[BenchRound] = []
        self._networks: list[float] = []
        self._stages: dict[str, list[float]] = {}

    def round(self, engine: tuple[float, float], decoding_ms: float) -> None:
        """Measure one round; `engine` is frames per second and core milliseconds of the engine alone."""
        memory = _Run(
            self.config, self._model, self._core, lambda name, camera, epoch: MemorySource(name, self._frames), warm_s=self._warm_s
        )
        with memory.running():
            before = self._core.stats().stages
            memory.wait(self._seconds)
            after = self._core.stats().stages
        stages = {
            stage: (counts.sum_s - before[stage].sum_s) / memory.frames * 1e3
            for stage, counts in after.items()
            if counts.sum_s > before[stage].sum_s
        }
        run = _Run(self.config, self._model, self.metrics, warm_s=self._warm_s)
        with run.running():
            run.wait(self._seconds)
        outside_ms = max(0.0, run.outside_ms() - decoding_ms)
        stages["decoding"] = decoding_ms
        stages["capture"] = sum(core_ms for name, core_ms in run.thread_ms().items() if name.startswith("capture-"))
        stages.pop("slot", None)  # a wait
        for stage, core_ms in stages.items():
            self._stages.setdefault(stage, []).append(core_ms)
        self._networks.append(run.networks_s * run.fps)
        self.rounds.append(
            BenchRound(
                engine_fps=engine[0],
                pipeline_fps=memory.fps,
                daemon_fps=run.fps,
                engine_core_ms=engine[1],
                pipeline_core_ms=memory.core_ms,
                daemon_core_ms=run.core_ms,
                outside_ms=outside_ms,
            )
        )

    def row(self) -> BenchRow:
        """Return the row, with what is measured once; the stages' latencies are those of the rounds."""
        stages = self.metrics.latencies()
        engine_fps, daemon_fps = (_median(self.rounds, name) for name in ("engine_fps", "daemon_fps"))
        fresh = measure_fresh_process(_settings(self.config), settle_s=min(_SETTLE_S, _SETTLE_ROUNDS * self._seconds))
        cameras = list(self.config.cameras)
        rate = _LIVE_SHARE * daemon_fps / len(cameras)
        live = live_bench(self.config, self._model, self._frames, rate=rate, seconds=2 * self._seconds)
        return BenchRow(
            engine_fps=round(engine_fps, 2),
            pipeline_fps=round(_median(self.rounds, "pipeline_fps"), 2),
            daemon_fps=round(daemon_fps, 2),
            ratio=round(statistics.median(one.daemon_fps / one.engine_fps for one in self.rounds), 3),
            networks=round(statistics.median(self._networks), 3),
            outside_ms=round(_median(self.rounds, "outside_ms"), 3),
            core_ms={stage: round(statistics.median(values), 3) for stage, values in self._stages.items()},
            stages=stages,
            live=live,
            refine=_refined(self.config, self.metrics),
            rounds=self.rounds,
            **asdict(fresh),
        )


def bench(config: Config, source: str, *, rounds: int, seconds: float, cameras: int = 1, done: Callable[[], None]) -> BenchResult:
    """Measure the engine, the pipeline and the daemon in turns.

    Args:
        config: configuration; its cameras are replaced by `source`.
        source: video, image or folder of images, played in a loop.
        rounds: number of measurements of each.
        seconds: length of each measurement in seconds.
        cameras: number of cameras that play the source at once.
        done: called `steps(rounds)` times.

    Raises:
        EdgeposeError: the model, the engine or the source cannot be used.
    """
    camera = CameraConfig(source=source, loop=True)
    names = ["bench", *(f"bench{number}" for number in range(2, cameras + 1))]
    config = replace(config, cameras=dict.fromkeys(names, camera))
    config = with_settings(config, select(config).ready)
    model = pose_model(config.model)
    frames = first_frames(replace(camera, loop=False), _FRAMES)
    preprocessor = Preprocessor(model.info, config.model.input_size, lambda stage, seconds: None)
    inputs = [preprocessor.prepare(frame).images.copy() for frame in frames]
    alone, default = _Bench(pose_network_alone(config), model, frames, seconds), _Bench(config, model, frames, seconds)
    for _ in range(rounds):
        engine = _engine(config, model, inputs, seconds)
        done()
        decoding_ms = _decoding_ms(camera, seconds / 2)
        for each in (alone, default):
            each.round(engine, decoding_ms)
            done()
    backend = open_backend(model, config.model)
    name, device = backend.name, backend.device
    backend.close()
    rows = []
    for each in (alone, default):
        rows.append(each.row())
        done()
    first, second = rows
    return BenchResult(
        **{field: getattr(first, field) for field in first.__struct_fields__},
        default=second,
        cameras=cameras,
        model=model.path.name,
        backend=name,
        device=device,
        source=describe(source),
    )


def steps(rounds: int) -> int:
    """Return how often `bench` calls `done`."""
    return 3 * rounds + 2


def pose_network_alone(config: Config) -> Config:
    """Return a configuration without refinement, tiles and camera motion."""
    return replace(
        config,
        refine=replace(config.refine, people=0),
        tiles=replace(config.tiles, enabled=False),
        motion=replace(config.motion, enabled=False),
    )


def live_bench(
    config: Config,
    model: ModelFile,
    frames: Sequence[Frame],
    *,
    rate: float | Mapping[str, float],
    seconds: float,
    bad: Mapping[str, OpenCamera] | None = None,
) -> LiveBenchResult:
    """Measure live cameras, all of a configuration, that repeat frames.

    Args:
        rate: frames per second of each camera, or by its name.
        seconds: length of the measurement.
        bad: cameras that are opened in another way, and do not count.
    """
    bad = bad or {}
    cameras = [name for name in config.cameras if name not in bad]
    rates = rate if isinstance(rate, Mapping) else dict.fromkeys(cameras, rate)
    metrics = Metrics(1 << 16)

    def open_camera(name: str, camera: CameraConfig, epoch: int) -> Source:
        if name in bad:
            return bad[name](name, camera, epoch)
        return MemorySource(name, frames, rates[name], phase=cameras.index(name) / len(cameras))

    run = _Run(config, model, metrics, open_camera, forever=True)
    with run.running():
        metrics.stats(drain=True)
        run.wait(seconds)
    stats = metrics.stats(drain=True)
    ages = [age for name, age in stats.age_latencies.items() if name not in bad] or [Latency(0, 0, 0, 0)]
    counts = {name: run.published[name] for name in cameras}
    published = np.array(list(counts.values()), np.float64)
    return LiveBenchResult(
        cameras=len(cameras),
        rate=round(float(np.mean([rates[name] for name in cameras])), 2),
        published=round(float(published.sum()) / max(1.0, seconds * sum(rates[name] for name in cameras)), 3),
        age=Latency(*(max(getattr(age, field) for age in ages) for field in ("p50_ms", "p95_ms", "p99_ms", "maximum_ms"))),
        engine=stats.stage_latencies.get("engine", Latency(0, 0, 0, 0)),
        fairness=round(float(published.sum() ** 2 / max(1e-9, len(published) * (published**2).sum())), 4),
        frames=counts,
    )


def _median(rounds: Sequence[BenchRound], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in rounds))


def _core_s() -> dict[str, float]:
    """Return the core time of all threads of Python but this one, in seconds, by name."""
    threads = [thread for thread in threading.enumerate() if thread is not threading.current_thread() and thread.ident]
    found: dict[str, float] = {}
    for thread in threads:
        try:
            clock = time.pthread_getcpuclockid(thread.ident or 0)
            found[thread.name] = found.get(thread.name, 0.0) + time.clock_gettime(clock)
        except OSError:  # it has just ended
            continue
    return found


def _decoding_ms(camera: CameraConfig, seconds: float) -> float:
    """Return core milliseconds to decode a frame of a video, without its conversion; 0 for other sources."""
    if path_of(camera.source) is None:
        return 0.0
    source = open_source("bench", replace(camera, loop=False))
    try:
        if not isinstance(source, PyAvSource):
            return 0.0
        video = source._video
        until_s = time.perf_counter() + seconds
        spent_s, frames = 0.0, 0
        while time.perf_counter() < until_s:
            began_s = time.thread_time()
            decoded = video.next_frame()
            spent_s += time.thread_time() - began_s
            frames += decoded is not None
            if decoded is None:
                video.open()
        return spent_s / max(1, frames) * 1e3
    finally:
        source.close()


def _refined(config: Config, metrics: Metrics) -> RefineBenchResult | None:
    looks = metrics.refinement()
    if looks is None:
        return None
    published = sum(metrics.camera(name).published for name in config.cameras)
    return RefineBenchResult(
        refiner=refiner_model(config.refine.path, config.model).path.name,
        people=config.refine.people,
        budget_ms=config.refine.budget_ms,
        people_per_frame=round((looks.accepted + looks.disagreed) / max(1, published), 2),
        cost_ms=round(looks.cost_ms, 2),
    )


def _engine(config: Config, model: ModelFile, inputs: list[NDArray[np.uint8]], seconds: float) -> tuple[float, float]:
    """Return frames per second and core milliseconds for a frame of the engine alone."""
    backend = open_backend(model, config.model)
    try:
        warm_until_s = time.perf_counter() + _WARM_S
        for images in cycle(inputs):
            backend.run(images)
            if time.perf_counter() > warm_until_s:
                break
        frames, start_s, core_s = 0, time.perf_counter(), time.process_time()
        for images in islice(cycle(inputs), 1_000_000):
            backend.run(images)
            frames += 1
            if time.perf_counter() - start_s > seconds:
                break
        return frames / (time.perf_counter() - start_s), (time.process_time() - core_s) / frames * 1e3
    finally:
        backend.close()


def _where(model: ModelFile) -> str:
    """Return what finds a model from any folder."""
    return model.server or str(model.path.absolute())


def _settings(config: Config) -> dict[str, str]:
    """Return the settings with which a fresh process does the same."""
    settings = {
        "model.path": _where(pose_model(config.model)),
        "model.backend": config.model.backend,
        "model.threads": str(config.model.threads),
        **({"model.engines": config.model.engines} if config.model.engines else {}),
        "model.input_size": str(config.model.input_size),
        "refine.people": str(config.refine.people),
        "refine.budget_ms": str(config.refine.budget_ms),
        "refine.min_height_px": str(config.refine.min_height_px),
        "tiles.enabled": str(config.tiles.enabled).lower(),
        "motion.enabled": str(config.motion.enabled).lower(),
    }
    if config.refine.people:
        settings["refine.path"] = _where(refiner_model(config.refine.path, config.model))
    for name, camera in config.cameras.items():
        path = path_of(camera.source)
        settings[f"cameras.{name}.source"] = camera.source if path is None else str(path.absolute())
        settings[f"cameras.{name}.loop"] = "true"
    return settings
