"""The main thread: starts the daemon, watches over it, and ends it in order when it is told to."""

import logging
import platform
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import av
import msgspec
import numpy as np
from msgspec import UNSET

from edgepose import __version__
from edgepose.capture.source import redact
from edgepose.config import Config
from edgepose.daemon.camera import CameraState
from edgepose.daemon.delivery import Delivery
from edgepose.daemon.health import HealthReporter
from edgepose.daemon.metrics import Metrics
from edgepose.daemon.observe import Observer
from edgepose.daemon.pipeline import Pipeline
from edgepose.daemon.pulse import Pulse, all_progressed
from edgepose.daemon.second_look import SecondLook
from edgepose.daemon.sinks import open_sinks
from edgepose.daemon.systemd import Notifier
from edgepose.engine.backend import Backend, Network, open_backend
from edgepose.model import ModelFile, named_model
from edgepose.output.messages import (
    BackendMessage,
    CameraMessage,
    CameraStatusMessage,
    HealthMessage,
    InfoMessage,
    ModelMessage,
    RefinerMessage,
    timestamp,
)
from edgepose.output.mqtt import MqttPublisher

_log = logging.getLogger(__name__)

_TURN_S = 0.1  # how soon the main thread notices that it shall stop
_DRAIN_S = 1.2  # for frames on their way; with the broker's goodbye and the files below three seconds
_FILES_S = 1.0
_MAIN_STUCK_S = 15.0  # a turn takes a tenth of a second
_FILES_AT_THE_END_S = 60.0  # when nobody is waiting for us to go


class Daemon:
    """All parts of one configuration, joined.

    Attributes:
        metrics: what is counted.
    """

    def __init__(self, config: Config, notifier: Notifier, *, forever: bool = True, afresh: bool = False) -> None:
        """Opens what can be refused: model, password, files.

        Args:
            notifier: the service manager.
            forever: whether cameras that cannot be opened are tried again; otherwise they end the run.
            afresh: whether files that are there make place for the new ones with the first frame.

        Raises:
            ModelError: the model is missing or no pose model, or the refiner is missing or no refiner.
            ConfigError: the password or a certificate cannot be read, or a file that is written is read too.
            OutputError: a file cannot be written.
        """
        self._config = config
        self._notifier = notifier
        self._started_s = time.monotonic()
        self._started_ns = time.time_ns()
        self.metrics = Metrics()
        self._model = named_model(config.model.path, "pose")
        self._second_look = SecondLook.configured(config, self.metrics)
        self._publisher = MqttPublisher(config.mqtt, device_name(config)) if config.mqtt.enabled else None
        self._delivery = Delivery(self._publisher, open_sinks(config, afresh=afresh), self.metrics)
        self._pipeline = Pipeline(
            config,
            self._model.info,
            lambda: open_backend(self._model, config.model),
            self.metrics,
            self._delivery.deliver,
            self._camera_changed,
            second_look=self._second_look,
            forever=forever,
        )
        self._health = HealthReporter(self.metrics, self._started_s)
        self._next_health_s = self._started_s + config.health.interval_s
        self._fed_s = self._started_s
        self._turning = Pulse(_MAIN_STUCK_S)
        self._reported: HealthMessage | None = None
        self._observer: Observer | None = None

    def start(self, broker_within_s: float = 0.0) -> None:
        """Opens the engine and the cameras, and says that we are there.

        Args:
            broker_within_s: how long the cameras may wait for the broker, so that a short file is not over before it is there.

        Raises:
            EngineError: no backend could be opened.
            UnavailableError: the local port that is to be served cannot be had.
        """
        backend = self._pipeline.open()
        _log.info("model %s on %s (%s, %s): %s", self._model.path.name, backend.name, backend.device, backend.precision, backend.reason)
        refiner = _refiner(self._config, self._second_look)
        if refiner is not None:
            where = refiner.backend
            _log.info("refiner %s on %s (%s, %s): %s", refiner.name, where.name, where.device, where.precision, where.reason)
        if self._config.observe.enabled:
            self._observe(backend)
        if self._publisher is not None:
            self._publisher.start(_info(self._config, self._model, backend, refiner, self._publisher.session, self._started_ns))
            deadline = time.monotonic() + broker_within_s
            while not self._publisher.connected and time.monotonic() < deadline:
                time.sleep(_TURN_S)
        self._pipeline.start()
        self._notifier.ready()

    def finished(self) -> bool:
        """Whether there is nothing left to do: all files are through, or the work has failed."""
        return self._pipeline.finished()

    def states(self) -> list[CameraState]:
        """What is known of each camera."""
        return self._pipeline.states()

    def tick(self, now_s: float) -> None:
        """Feeds the watchdog and reports health when it is time; called several times a second."""
        self._turning.beat()
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and now_s - self._fed_s >= watchdog_s / 4:
            pulses = self._pipeline.pulses()
            if all_progressed(pulses, now_s):
                self._notifier.alive()
                self._fed_s = now_s
        if now_s >= self._next_health_s:
            self._next_health_s += self._config.health.interval_s * (1 + (now_s - self._next_health_s) // self._config.health.interval_s)
            self._report(now_s)

    def stop(self, reason: str, *, patient: bool) -> None:
        """Lets the frames on their way pass, says goodbye with the reason, and completes the files.

        Args:
            patient: whether the files get all the time they need; otherwise all is over within three seconds.

        Raises:
            EdgeposeError: what had ended the work before.
        """
        self._notifier.stopping()
        if self._observer is not None:
            self._observer.stop()
        if not self._pipeline.stop(_DRAIN_S):
            _log.warning("some work did not end within %.1f s and was abandoned", _DRAIN_S)
        failure = self._pipeline.failure
        if self._publisher is not None:
            self._publisher.stop(reason if failure is None else str(failure))
        self._delivery.close(_FILES_AT_THE_END_S if patient else _FILES_S)
        failure = failure or self._delivery.failure
        if failure is not None:
            raise failure

    def _observe(self, backend: Backend) -> None:
        build = {
            "version": __version__,
            "python": platform.python_version(),
            "model": self._model.path.name,
            "model_sha256": self._model.sha256[:12],
            "backend": backend.name,
            "hardware": backend.device,
            "precision": backend.precision,
        }
        observed = self._config.observe
        self._observer = Observer.of(
            observed, lambda: build, self.metrics, self._pipeline, lambda: self._publisher, lambda: self._reported, self._stuck
        )
        self._observer.start()
        _log.info("serving /metrics and /healthz on %s port %d", observed.host, self._observer.port)

    def _stuck(self) -> list[str]:
        """Loops that hang, the main thread's included."""
        now_s = time.monotonic()
        return [name for name, pulse in {**self._pipeline.pulses(), "main": self._turning}.items() if pulse.stuck(now_s)]

    def _camera_changed(self, state: CameraState) -> None:
        if self._publisher is not None:
            message = CameraStatusMessage(
                camera=state.camera,
                state=state.state,
                cause=state.cause if state.cause is not None else UNSET,
                detail=state.detail if state.detail is not None else UNSET,
                epoch=state.epoch,
                width=state.width if state.width is not None else UNSET,
                height=state.height if state.height is not None else UNSET,
                at=timestamp(time.time_ns()),
            )
            self._publisher.publish_retained(f"cameras/{state.camera}/status", message)

    def _report(self, now_s: float) -> None:
        states = self.states()
        sent, drops = (self._publisher.sent, self._publisher.drops) if self._publisher is not None else (0, {})
        health = self._reported = self._health.report(states, sent, drops, now_s)
        if self._publisher is not None:
            self._publisher.publish("health", health)
        rate = sum(camera.frames_per_second for camera in health.cameras.values())
        streaming = sum(state.state == "streaming" for state in states)
        self._notifier.status(f"{streaming} of {len(states)} cameras streaming, {rate:.1f} frames/s, {health.memory_mb:.0f} MiB")


def supervise(daemon: Daemon, stop: threading.Event, reason: Callable[[], str], each_turn: Callable[[], None] | None = None) -> None:
    """Runs a daemon until `stop` is set, or until it has nothing left to do.

    Args:
        daemon: started.
        stop: told from outside, a signal handler for example.
        reason: asked for the reason when `stop` is set.
        each_turn: called some ten times a second, to draw a table for example.

    Raises:
        EdgeposeError: what ended the work.
    """
    while not stop.wait(_TURN_S) and not daemon.finished():
        daemon.tick(time.monotonic())
        if each_turn is not None:
            each_turn()
    if stop.is_set():
        _log.info("stopping: %s", reason())
        daemon.stop(reason(), patient=False)
    else:
        daemon.stop("all sources are over", patient=True)


@contextmanager
def signals() -> Iterator[tuple[threading.Event, Callable[[], str]]]:
    """Turns SIGTERM and SIGINT into an event and its reason; a second signal ends the program at once."""
    stop = threading.Event()
    received: list[str] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield stop, lambda: f"received {received[0]}" if received else "stopped on request"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def device_name(config: Config) -> str:
    """The device's name in topics: the configured one, or the host's with what cannot stand in a topic replaced."""
    return config.device or re.sub(r"[^A-Za-z0-9_.-]+", "-", socket.gethostname()).strip("-.")[:64] or "edgepose"


def _refiner(config: Config, second_look: SecondLook | None) -> RefinerMessage | None:
    if second_look is None or second_look.network is None:
        return None
    model = second_look.model
    return RefinerMessage(
        name=model.path.name,
        sha256=model.sha256,
        precision=model.info.precision,
        input_size=model.info.input_size,
        licence=model.info.licence,
        backend=_where(second_look.network),
        people=config.refine.people,
        budget_ms=config.refine.budget_ms,
    )


def _where(network: Network) -> BackendMessage:
    return BackendMessage(name=network.name, device=network.device, precision=network.precision, reason=network.reason)


def _info(config: Config, model: ModelFile, backend: Backend, refiner: RefinerMessage | None, session: str, started_ns: int) -> InfoMessage:
    return InfoMessage(
        device=device_name(config),
        session=session,
        started_at=timestamp(started_ns),
        versions={
            "edgepose": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "av": av.__version__,
            "msgspec": msgspec.__version__,
        },
        model=ModelMessage(
            name=model.path.name,
            sha256=model.sha256,
            precision=model.info.precision,
            input_size=model.info.long_side(config.model.input_size),
            licence=model.info.licence,
        ),
        backend=_where(backend),
        refiner=UNSET if refiner is None else refiner,
        cameras=[CameraMessage(name=name, source=redact(camera.source)) for name, camera in config.cameras.items()],
    )
