"""Checks of `edgepose doctor`: versions, devices, model, broker and readers, each with a hint where it fails."""

import importlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import av
import numpy as np

from edgepose import __version__
from edgepose.capture.gstreamer.library import CSI_SOURCE, HARDWARE_DECODER, load
from edgepose.capture.readers import choose_reader
from edgepose.capture.source import path_of
from edgepose.config.schema import CameraConfig, Config, MqttConfig
from edgepose.diagnostics.jetson import jetson_checks
from edgepose.diagnostics.preflight import CheckResult, describe_broker, preflight_checks
from edgepose.engine.backend import open_backend, pose_model
from edgepose.engine.selection import Selection, select, with_settings
from edgepose.errors import EdgeposeError, UnavailableError
from edgepose.frame import Frame
from edgepose.mqtt.subscriber import Subscriber
from edgepose.pipeline.refiner import Refiner
from edgepose.pipeline.stages import Preprocessor
from edgepose.telemetry.metrics import Metrics
from edgepose.telemetry.sensors import memory_mb, temperatures_c

_TIMED_RUNS = 5


@dataclass(frozen=True, slots=True)
class _Library:
    module: str
    distribution: str


_LIBRARIES = (
    _Library("numpy", "numpy"),
    _Library("cv2", "opencv-python-headless"),
    _Library("av", "av"),
    _Library("paho.mqtt.client", "paho-mqtt"),
    _Library("msgspec", "msgspec"),
    _Library("onnxruntime", "onnxruntime"),
)


def doctor_checks(config: Config) -> Iterator[CheckResult]:
    """Check everything that a daemon with this configuration needs; opens the engine and contacts the broker."""
    yield CheckResult("edgepose", True, f"{__version__}, Python {platform.python_version()} ({sys.executable})")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    temperatures = ", ".join(f"{kind} {value:.0f} °C" for kind, value in temperatures_c().items()) or "no temperature sensor"
    yield CheckResult("machine", True, f"{platform.machine()}, {cores} cores, {platform.system()} {platform.release()}, {temperatures}")
    yield from jetson_checks()
    for library in _LIBRARIES:
        yield _library(library)
    yield _encoder()
    yield _backends()
    # A diagnosis needs no camera; the broker is contacted below.
    yield from (result for result in preflight_checks(config) if result.what not in ("cameras", "mqtt"))
    selection, result = _selection(config)
    if result is not None:
        yield result
    if selection is not None:
        yield _engine(config, selection)
        if config.refine.people:
            yield _refiner(with_settings(config, selection.now))
    if config.mqtt.enabled:
        yield _broker(config.mqtt)
    yield CheckResult("memory", True, f"{memory_mb():.0f} MiB resident with everything loaded")
    yield from (_reader(name, camera) for name, camera in config.cameras.items() if path_of(camera.source) is None)
    yield _gstreamer()  # last: its memory is not part of the figure above, unless a camera needs it


def _library(library: _Library) -> CheckResult:
    try:
        importlib.import_module(library.module)
    except ImportError as error:
        return CheckResult(
            library.distribution, False, f"cannot be loaded ({error}); expected it to be installed: pip install {library.distribution}", 69
        )
    try:
        return CheckResult(library.distribution, True, metadata.version(library.distribution))
    except metadata.PackageNotFoundError:  # another wheel provides the same module: onnxruntime-gpu, opencv-python
        return CheckResult(library.distribution, True, "present, from another package")


def _encoder() -> CheckResult:
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    return CheckResult("video encoder", True, f"{codec} for annotated videos")


def _backends() -> CheckResult:
    try:
        import onnxruntime
    except ImportError:
        return CheckResult("devices", False, "unknown without onnxruntime; expected it to be installed: pip install onnxruntime", 69)
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return CheckResult("devices", True, f"onnxruntime was built for {', '.join(providers)}; the line `engine` shows which one works")


def _selection(config: Config) -> tuple[Selection | None, CheckResult | None]:
    """Return the choice of backends, and a result where that is refused or something better is not used."""
    try:
        selection = select(config)
    except EdgeposeError as error:
        return None, CheckResult("engine", False, str(error), error.exit_code)
    if selection.wanted is not None:
        return selection, CheckResult("tensorrt", True, f"{selection.why}; expected edgepose build-engine to run first", note=True)
    return selection, CheckResult("tensorrt", True, selection.why) if selection.why else None


def _engine(config: Config, selection: Selection) -> CheckResult:
    try:
        model = pose_model(selection.now)
        backend = open_backend(model, selection.now)
        try:
            frame = Frame(np.zeros((480, 640, 3), np.uint8), 0, "host", 0, "doctor")
            images = Preprocessor(model.info, config.model.input_size, lambda stage, seconds: None).prepare(frame).images
            backend.run(images)
            start_s = time.perf_counter()
            for _ in range(_TIMED_RUNS):
                backend.run(images)
            run_ms = (time.perf_counter() - start_s) / _TIMED_RUNS * 1e3
        finally:
            backend.close()
    except EdgeposeError as error:
        return CheckResult("engine", False, str(error), error.exit_code)
    return CheckResult(
        "engine", True, f"{backend.name} on {backend.device}, {backend.precision}, {run_ms:.1f} ms per frame: {backend.reason}"
    )


def _refiner(config: Config) -> CheckResult:
    try:
        refiner = Refiner.configured(config, Metrics())
        assert refiner is not None  # called only where refinement is on
        network = refiner.open()
        refiner.close()
    except EdgeposeError as error:
        return CheckResult("refine", False, str(error), error.exit_code)
    cost = f"{refiner.cost_ms:.1f} ms per person"
    return CheckResult("refine", True, f"{network.name} on {network.device}, {network.precision}, {cost}: {network.reason}")


def _broker(mqtt: MqttConfig) -> CheckResult:
    try:
        broker = describe_broker(mqtt)
        start_s = time.perf_counter()
        with Subscriber(mqtt, [], lambda topic, payload: None):
            answer_ms = (time.perf_counter() - start_s) * 1e3
    except EdgeposeError as error:
        return CheckResult("broker", False, str(error), error.exit_code)
    return CheckResult("broker", True, f"{broker}, accepted the connection within {answer_ms:.0f} ms")


def _reader(name: str, camera: CameraConfig) -> CheckResult:
    """Report which library reads a camera, and why."""
    reader = choose_reader(camera)
    version = f"FFmpeg (PyAV {av.__version__})" if reader.name == "ffmpeg" else "GStreamer"
    return CheckResult(f"reader {name}", True, f"{version}: {reader.reason}")


def _gstreamer() -> CheckResult:
    """Report whether GStreamer is installed and which Jetson elements it has; good either way, since most cameras do not need it."""
    try:
        library = load()
    except UnavailableError as error:
        return CheckResult("gstreamer", True, f"not used: {error}")
    decoder = f"{HARDWARE_DECODER} found: RTSP is decoded in hardware" if library.has(HARDWARE_DECODER) else f"{HARDWARE_DECODER} not found"
    camera = f"{CSI_SOURCE} {'found' if library.has(CSI_SOURCE) else 'not found'}"
    return CheckResult("gstreamer", True, f"{library.version}, through gi {library.gi_version} in {library.folder}; {decoder}; {camera}")
