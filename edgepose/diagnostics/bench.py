"""Benchmark of `edgepose bench`: speed of the engine alone and of the whole daemon, and time to the first pose."""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import av
import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edgepose.capture.redact import describe
from edgepose.capture.source import open_source, path_of
from edgepose.config.schema import CameraConfig, Config
from edgepose.engine.backend import open_backend, pose_model, refiner_model
from edgepose.engine.selection import select, with_settings
from edgepose.errors import EdgeposeError, EndOfStream
from edgepose.messages.structs import EventMessage, PosesMessage, encode
from edgepose.model.file import ModelFile
from edgepose.pipeline.delivery import Delivery
from edgepose.pipeline.pipeline import Pipeline
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.pixels import unguarded, video_frame
from edgepose.telemetry.metrics import Latency, Metrics
from edgepose.telemetry.sensors import memory_mb

FETCHED_VIDEO = Path("build/vtest.avi")
"""The video that `make demo` fetches, in the current folder."""

PACKAGED_VIDEO = Path(__file__).parents[1] / "assets" / "demo.mp4"
"""The clip that is part of the package."""

_INPUTS = 24  # distinct frames that the engine alone runs on in turns, as varied as in the daemon but all in memory
_WARM_S = 0.5
_FIRST_POSE_LIMIT_S = 60.0
_SETTLE_S = 5.0


class RefineBenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Refinement in the measured daemon.

    Attributes:
        refiner: file name.
        people: maximum number of people refined per frame, as configured.
        budget_ms: time limit per frame in milliseconds, as configured; 0 is adaptive, which is no limit for the frames of a file.
        people_per_frame: mean number of people refined per frame.
        cost_ms: milliseconds per person.
    """

    refiner: str
    people: int
    budget_ms: float
    people_per_frame: float
    cost_ms: float


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a benchmark.

    Attributes:
        engine_fps: frames per second of the engine alone (pose network only) on prepared inputs, median over the rounds.
        daemon_fps: frames per second of the daemon from file to encoded message, with refinement where `refine` is set, median over the
            rounds.
        ratio: median over the rounds of `daemon_fps / engine_fps`, each pair measured directly one after the other.
        first_pose_s: seconds from the start of a fresh process to its first pose message.
        peak_rss_mb: peak resident memory of that process, MiB.
        stages: milliseconds of each stage of the daemon: p50, p95, p99 and maximum.
        refine: refinement; None where nobody was refined, and daemon and engine ran the same network.
        model, backend, device, source: what was measured.
    """

    engine_fps: float
    daemon_fps: float
    ratio: float
    first_pose_s: float
    peak_rss_mb: float
    stages: dict[str, Latency]
    refine: RefineBenchResult | None
    model: str
    backend: str
    device: str
    source: str


class _Encoder:
    """A stand-in for the MQTT publisher that encodes each message and discards it."""

    def publish_poses(self, camera: str, payload: PosesMessage) -> None:
        encode(payload)

    def publish(self, address: str, payload: EventMessage, qos: Literal[0, 1]) -> None:
        encode(payload)


def bench(config: Config, source: str, *, rounds: int, seconds: float, done: Callable[[], None]) -> BenchResult:
    """Measure the engine and the daemon in turns.

    Args:
        config: configuration; its cameras are replaced by `source`.
        source: video, image or folder of images, played in a loop.
        rounds: number of pairs of measurements.
        seconds: length of each measurement in seconds.
        done: called after each measurement.

    Raises:
        EdgeposeError: the model, the engine or the source cannot be used.
    """
    camera = CameraConfig(source=source, loop=True)
    config = replace(config, cameras={"bench": camera})
    config = with_settings(config, select(config).ready)
    model = pose_model(config.model)
    inputs = _inputs(config, camera, model)
    metrics = Metrics(samples=4096)
    engine_fps: list[float] = []
    daemon_fps: list[float] = []
    for _ in range(rounds):
        engine_fps.append(_engine_fps(config, model, inputs, seconds))
        done()
        daemon_fps.append(_daemon_fps(config, model, metrics, seconds))
        done()
    backend = open_backend(model, config.model)
    first_pose_s, peak_rss_mb = _fresh_process(config, source)
    done()
    return BenchResult(
        engine_fps=round(statistics.median(engine_fps), 2),
        daemon_fps=round(statistics.median(daemon_fps), 2),
        ratio=round(statistics.median(daemon / engine for daemon, engine in zip(daemon_fps, engine_fps, strict=True)), 3),
        first_pose_s=round(first_pose_s, 2),
        peak_rss_mb=round(peak_rss_mb, 1),
        stages=metrics.latencies(),
        refine=_refined(config, metrics),
        model=model.path.name,
        backend=backend.name,
        device=backend.device,
        source=describe(source),
    )


def video_at_hand() -> str | None:
    """Return the video that `make demo` fetched, or the one in the package, or None."""
    for path in (FETCHED_VIDEO, PACKAGED_VIDEO):
        if path.is_file() and path.stat().st_size:
            return str(path)
    return None


@contextmanager
def bench_source(source: str | None) -> Iterator[str]:
    """Yield the source of a benchmark: the one that is named, or the video at hand, or a synthetic clip."""
    chosen = source or video_at_hand()
    if chosen is not None:
        yield chosen
        return
    with synthetic_clip() as clip:
        yield clip


@contextmanager
def synthetic_clip(frames: int = 100, width: int = 768, height: int = 576) -> Iterator[str]:
    """Write a video of moving rectangles to a temporary folder and yield its path, for machines without a real one; it shows no people."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.mp4"
        noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        ground = np.kron(noise, np.ones((8, 8, 1), np.uint8))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(frames):
                image = ground.copy()
                for figure in range(6):
                    left = (number * (figure + 2) + figure * width // 6) % (width - 40)
                    top = height // 6 + figure * height // 10
                    image[top : top + 120, left : left + 40] = 40 * figure
                container.mux(stream.encode(video_frame(unguarded(image))))
            container.mux(stream.encode(None))
        yield str(path)


def _inputs(config: Config, camera: CameraConfig, model: ModelFile) -> list[NDArray[np.uint8]]:
    stage = Preprocessor(model.info, config.model.input_size, lambda stage, seconds: None)
    source = open_source("bench", replace(camera, loop=False))
    inputs: list[NDArray[np.uint8]] = []
    try:
        while len(inputs) < _INPUTS:
            inputs.append(stage.prepare(source.read()).images)
    except EndOfStream:
        if not inputs:
            raise
    finally:
        source.close()
    return inputs


def _refined(config: Config, metrics: Metrics) -> RefineBenchResult | None:
    looks = metrics.refinement()
    if looks is None:
        return None
    return RefineBenchResult(
        refiner=refiner_model(config.refine.path, config.model).path.name,
        people=config.refine.people,
        budget_ms=config.refine.budget_ms,
        people_per_frame=round((looks.accepted + looks.disagreed) / max(1, metrics.camera("bench").published), 2),
        cost_ms=round(looks.cost_ms, 2),
    )


def _engine_fps(config: Config, model: ModelFile, inputs: list[NDArray[np.uint8]], seconds: float) -> float:
    backend = open_backend(model, config.model)
    try:
        warm_until_s = time.perf_counter() + _WARM_S
        for images in cycle(inputs):
            backend.run(images)
            if time.perf_counter() > warm_until_s:
                break
        frames, start_s = 0, time.perf_counter()
        for images in islice(cycle(inputs), 1_000_000):
            backend.run(images)
            frames += 1
            if time.perf_counter() - start_s > seconds:
                break
        return frames / (time.perf_counter() - start_s)
    finally:
        backend.close()


def _daemon_fps(config: Config, model: ModelFile, metrics: Metrics, seconds: float) -> float:
    delivery = Delivery(_Encoder(), [], metrics)
    pipeline = Pipeline(
        config,
        model.info,
        lambda: open_backend(model, config.model),
        metrics,
        delivery.deliver,
        lambda _: None,
        refiner=Refiner.configured(config, metrics),
        forever=False,
    )
    pipeline.open()
    pipeline.start()
    try:
        time.sleep(_WARM_S)
        before, start_s = metrics.camera("bench").published, time.perf_counter()
        while time.perf_counter() - start_s < seconds and not pipeline.finished():
            time.sleep(0.01)
        fps = (metrics.camera("bench").published - before) / (time.perf_counter() - start_s)
    finally:
        pipeline.stop(2)
    if pipeline.failure is not None:
        raise pipeline.failure
    return fps


def _where(model: ModelFile) -> str:
    """Return what finds a model from any folder."""
    return model.server or str(model.path.absolute())


def _fresh_process(config: Config, source: str) -> tuple[float, float]:
    """Start a daemon and return the seconds to its first pose and its peak memory (MiB) after some seconds of work."""
    with tempfile.TemporaryDirectory() as folder:
        poses = Path(folder) / "poses.jsonl"
        command = [sys.executable, "-m", "edgepose", "run"]
        settings = {
            "cameras.bench.source": source if "://" in source or path_of(source) is None else str(Path(source).absolute()),
            "cameras.bench.loop": "true",
            "mqtt.enabled": "false",
            "files.jsonl": str(poses),
            "model.path": _where(pose_model(config.model)),
            "model.backend": config.model.backend,
            "model.threads": str(config.model.threads),
            **({"model.engines": config.model.engines} if config.model.engines else {}),
            "model.input_size": str(config.model.input_size),
            "refine.people": str(config.refine.people),
            "refine.budget_ms": str(config.refine.budget_ms),
            "refine.min_height_px": str(config.refine.min_height_px),
        }
        if config.refine.people:
            settings["refine.path"] = _where(refiner_model(config.refine.path, config.model))
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        start_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            while not (poses.exists() and poses.stat().st_size):
                if process.poll() is not None or time.perf_counter() - start_s > _FIRST_POSE_LIMIT_S:
                    process.kill()
                    log = process.communicate()[1].strip().splitlines()
                    raise EdgeposeError(f"a fresh daemon published no pose: {log[-1] if log else 'it took too long'}")
                time.sleep(0.005)
            first_pose_s = time.perf_counter() - start_s
            time.sleep(_SETTLE_S)
            peak_mb = memory_mb(Path(f"/proc/{process.pid}/status"), "VmHWM")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
    return first_pose_s, peak_mb
