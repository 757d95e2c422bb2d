"""What `edgepose doctor` looks at: versions, devices, model, broker; each with a hint where it is not as it should be."""

import importlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from edgepose import __version__
from edgepose.capture.source import path_of
from edgepose.config.schema import Config, MqttConfig
from edgepose.diagnostics import readers
from edgepose.diagnostics.preflight import CheckResult, broker_in_words, findings
from edgepose.engine.backend import open_backend
from edgepose.errors import EdgeposeError
from edgepose.frame import Frame
from edgepose.model.file import named_model
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


def examine(config: Config) -> Iterator[CheckResult]:
    """Looks at everything that a daemon of this configuration stands on; opens the engine and contacts the broker."""
    yield CheckResult("edgepose", True, f"{__version__}, Python {platform.python_version()} ({sys.executable})")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    heat = ", ".join(f"{kind} {value:.0f} °C" for kind, value in temperatures_c().items()) or "no temperature sensor"
    yield CheckResult("machine", True, f"{platform.machine()}, {cores} cores, {platform.system()} {platform.release()}, {heat}")
    for library in _LIBRARIES:
        yield _library(library)
    yield _encoder()
    yield _backends()
    # A doctor needs no camera, and contacts the broker below.
    yield from (finding for finding in findings(config) if finding.what not in ("cameras", "mqtt"))
    yield _engine(config)
    if config.refine.people:
        yield _refiner(config)
    if config.mqtt.enabled:
        yield _broker(config.mqtt)
    yield CheckResult("memory", True, f"{memory_mb():.0f} MiB resident with everything loaded")
    yield from (readers.reader(name, camera) for name, camera in config.cameras.items() if path_of(camera.source) is None)
    yield readers.gstreamer()  # last: what it takes is no part of the memory above, unless a camera needs it


def _library(library: _Library) -> CheckResult:
    try:
        importlib.import_module(library.module)
    except ImportError as error:
        return CheckResult(
            library.distribution, False, f"cannot be loaded ({error}); expected it installed: pip install {library.distribution}", 69
        )
    try:
        return CheckResult(library.distribution, True, metadata.version(library.distribution))
    except metadata.PackageNotFoundError:  # another wheel gives the same module: onnxruntime-gpu, opencv-python
        return CheckResult(library.distribution, True, "present, from another package")


def _encoder() -> CheckResult:
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    return CheckResult("video encoder", True, f"{codec} for annotated videos")


def _backends() -> CheckResult:
    try:
        import onnxruntime
    except ImportError:
        return CheckResult("devices", False, "unknown without onnxruntime; expected it installed: pip install onnxruntime", 69)
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return CheckResult("devices", True, f"onnxruntime was built for {', '.join(providers)}; the line `engine` says which one works")


def _engine(config: Config) -> CheckResult:
    try:
        model = named_model(config.model.path, "pose")
        backend = open_backend(model, config.model)
        try:
            picture = Frame(np.zeros((480, 640, 3), np.uint8), 0, "host", 0, "doctor")
            images = Preprocessor(model.info, config.model.input_size, lambda stage, seconds: None).prepare(picture).images
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
        "engine", True, f"{backend.name} on {backend.device}, {backend.precision}, {run_ms:.1f} ms a picture: {backend.reason}"
    )


def _refiner(config: Config) -> CheckResult:
    try:
        refiner = Refiner.configured(config, Metrics())
        assert refiner is not None  # asked for where people are looked at again
        network = refiner.open()
        refiner.close()
    except EdgeposeError as error:
        return CheckResult("second look", False, str(error), error.exit_code)
    cost = f"{refiner.cost_ms:.1f} ms a person"
    return CheckResult("second look", True, f"{network.name} on {network.device}, {network.precision}, {cost}: {network.reason}")


def _broker(mqtt: MqttConfig) -> CheckResult:
    try:
        broker = broker_in_words(mqtt)
        start_s = time.perf_counter()
        with Subscriber(mqtt, [], lambda topic, payload: None):
            answer_ms = (time.perf_counter() - start_s) * 1e3
    except EdgeposeError as error:
        return CheckResult("broker", False, str(error), error.exit_code)
    return CheckResult("broker", True, f"{broker}, let us in within {answer_ms:.0f} ms")
