"""All parts of the daemon: joined, watched over, changed while they run, and ended in order."""

import logging
import threading
import time
from collections.abc import Callable

from edgepose.config.schema import Config
from edgepose.daemon.audit import Audit
from edgepose.daemon.commands import CommandHandler, Done
from edgepose.daemon.health import Circumstances, HealthReporter
from edgepose.daemon.info import build_labels, camera_message, info_message, refiner_message
from edgepose.daemon.instance import InstanceLock
from edgepose.daemon.link import Link
from edgepose.daemon.monitoring import MonitoringServer
from edgepose.daemon.reload import PreparedReload, Reloads, prepare
from edgepose.engine.backend import Backend, open_backend
from edgepose.errors import ConfigError, EdgeposeError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.messages.structs import HealthMessage
from edgepose.model.file import named_model
from edgepose.mqtt.command_inbox import Command
from edgepose.pipeline.delivery import Delivery, Sink
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.pipeline.pipeline import Pipeline
from edgepose.pipeline.refiner import Refiner
from edgepose.recorder.black_box import BlackBox
from edgepose.recorder.folder import Recording
from edgepose.supervision.guarded_tasks import GuardedTasks
from edgepose.supervision.hang_detector import HangDetector, StuckError
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.systemd import Notifier
from edgepose.telemetry.metrics import Metrics
from edgepose.validation.output_paths import refuse_clashes
from edgepose.validation.sources import refuse_impossible

_log = logging.getLogger(__name__)

_STOP_S = 2.6  # of three seconds; the rest is for Python's own end
_DRAIN_S = 0.9  # of these, for frames on their way
_GOODBYE_S = 0.5  # what the publisher takes beyond its limit at most
_LEAST_S = 0.3
_FILES_S = 1.0  # for files that others take the place of
_MAIN_STUCK_S = 15.0  # a turn takes a tenth of a second
_FILES_AT_THE_END_S = 60.0  # when nobody is waiting for us to go


class Daemon:
    """All parts of one configuration, joined.

    Attributes:
        metrics: what is counted.
    """

    def __init__(
        self,
        config: Config,
        notifier: Notifier,
        *,
        forever: bool = True,
        afresh: bool = False,
        load: Callable[[], Config] | None = None,
    ) -> None:
        """Opens what can be refused: model, password, files.

        Args:
            notifier: the service manager.
            forever: whether cameras that cannot be opened are tried again; otherwise they end the run.
            afresh: whether files that are there make place for the new ones with the first frame.
            load: reads the configuration anew; None where that cannot be.

        Raises:
            ModelError: the model is missing or no pose model, or the refiner is missing or no refiner.
            ConfigError: the password or a certificate cannot be read, or a file that is written is read too.
            SourceError: a camera's file is not there, or its pipeline cannot be; what may come later is waited for.
            OutputError: a file cannot be written.
        """
        refuse_clashes(config)
        if forever:
            refuse_impossible(config.cameras)
        self._config = config
        self._forever = forever
        self._instance_lock = InstanceLock(config)
        self._notifier = notifier
        self._started_s = time.monotonic()
        self._started_ns = time.time_ns()
        self.metrics = Metrics()
        self._model = named_model(config.model.path, "pose")
        self._refiner = Refiner.configured(config, self.metrics)
        self._box = BlackBox.configured(config, self._model)
        self._link = Link(config, self._take_command)
        self._delivery = Delivery(self._link, open_sinks(config, afresh=afresh), self.metrics, self._reopening(config))
        self._pipeline = Pipeline(
            config,
            self._model.info,
            self._open_engine,
            self.metrics,
            self._delivery.deliver,
            self._camera_changed,
            refiner=self._refiner,
            forever=forever,
            box=self._box,
        )
        self._command_handler = self._command_handler_of(Audit.configured(config.commands))
        self._reloads = Reloads(load, self._prepare, self._apply, notifier)
        self._health = HealthReporter(self.metrics, self._started_s)
        self._next_health_s = self._started_s + config.health.interval_s
        self._fed_s = self._started_s
        self._hang_detector = HangDetector(config.health.stuck_after_s, self._where)
        self._hopeless: StuckError | None = None
        self._turning = Heartbeat(_MAIN_STUCK_S)
        self._guarded_tasks = GuardedTasks()
        self._reported: HealthMessage | None = None
        self._monitoring_server: MonitoringServer | None = None

    def start(self, broker_within_s: float = 0.0) -> None:
        """Opens the engine and the cameras, and says that we are there.

        Args:
            broker_within_s: how long the cameras may wait for the broker, so that a short file is not over before it is there.

        Raises:
            EngineError: no backend could be opened.
            UnavailableError: a daemon of the same name, or with the same black box, runs on this machine, or the local port that is to
                be served cannot be had.
        """
        self._instance_lock.take()
        try:
            self._begin(broker_within_s)
        except EdgeposeError:
            if self._monitoring_server is not None:
                self._monitoring_server.stop()
            self._instance_lock.release()
            raise

    def _begin(self, broker_within_s: float) -> None:
        backend = self._pipeline.open()
        _log.info("model %s on %s (%s, %s): %s", self._model.path.name, backend.name, backend.device, backend.precision, backend.reason)
        refiner = refiner_message(self._config, self._refiner)
        if refiner is not None:
            where = refiner.backend
            _log.info("refiner %s on %s (%s, %s): %s", refiner.name, where.name, where.device, where.precision, where.reason)
        if self._config.monitoring.enabled:
            self._observe()
        if self._box is not None:  # last of what can be refused: a run that never began leaves nothing behind
            self._box.start()
        self._link.start(
            lambda session: info_message(self._config, self._model, self._pipeline.backend, self._refiner, session, self._started_ns),
            broker_within_s,
        )
        self._pipeline.start()
        self._notifier.ready()

    def finished(self) -> bool:
        """Whether there is nothing left to do: all files are through, or the work has failed, or hangs beyond hope."""
        return self._hopeless is not None or self._pipeline.finished()

    def states(self) -> list[CameraState]:
        """What is known of each camera."""
        return self._pipeline.states()

    def tick(self, now_s: float) -> None:
        """Looks after the work loops, feeds the watchdog and reports health when it is time; called several times a second.

        A part that fails costs nothing but itself.
        """
        self._turning.beat()
        do = self._guarded_tasks.do
        do("looking after the cameras", lambda: self._pipeline.replace_stuck(now_s))
        if self._box is not None:
            box = self._box
            do("looking after the black box", lambda: box.watch(self._pipeline.restarts()))
        do("looking after the publisher", lambda: self._link.look(self._config, now_s))
        if self._command_handler is not None:
            command_handler = self._command_handler
            do("obeying commands", lambda: command_handler.turn(now_s))
        do("reloading", self._reloads.turn)
        do("watching over the work", lambda: self._watch(now_s))
        if now_s >= self._next_health_s:
            self._next_health_s += self._config.health.interval_s * (1 + (now_s - self._next_health_s) // self._config.health.interval_s)
            do("reporting health", lambda: self._report(now_s))

    def _watch(self, now_s: float) -> None:
        """Sees who hangs, and feeds the watchdog where nobody does; where this fails, nobody feeds it."""
        working = self._working()
        writer = self._delivery.writer
        self._hang_detector.look(working if writer is None else {**working, writer.name: writer.heartbeat}, now_s)
        if self._hopeless is None:
            self._hopeless = self._hang_detector.hopeless(working, now_s)
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is not None and now_s - self._fed_s >= watchdog_s / 4 and self._hang_detector.all_is_well(working, now_s):
            self._notifier.alive()
            self._fed_s = now_s

    @property
    def config(self) -> Config:
        """In use now."""
        return self._config

    def reload(self, done: Done = lambda verdict: None) -> None:
        """Begins to read the configuration anew; it is applied in a later `tick`, or refused as a whole.

        Args:
            done: told what became of it.
        """
        self._reloads.ask(done)

    def configure(self, config: Config) -> None:
        """Goes over to a configuration with other thresholds."""
        self._config = config
        self._pipeline.change(config, self._model.info, None, self._refiner)

    def record(self, reason: str) -> Recording:
        """Begins to make a recording of the black box.

        Raises:
            ConfigError: there is none.
            UnavailableError: the same reason has made one in the last minute, or the disk cannot keep up.
        """
        if self._box is None:
            raise ConfigError("there is no black box; expected black_box.path to be set at the start")
        return self._box.record(reason)

    def pause(self, camera: str) -> None:
        """Closes a camera's source."""
        self._pipeline.pause(camera)

    def resume(self, camera: str) -> None:
        """Opens a camera's source again."""
        self._pipeline.resume(camera)

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Gives the next frame of a camera to `take`, from its thread."""
        self._pipeline.tap(camera, take)

    def stop(self, reason: str, *, patient: bool) -> None:
        """Lets the frames on their way pass, says goodbye with the reason, and completes the files.

        Args:
            patient: whether the files get all the time they need; otherwise all is over within three seconds.

        Raises:
            EdgeposeError: what had ended the work before.
        """
        ends_s = time.monotonic() + _STOP_S
        self._notifier.stopping()
        if self._monitoring_server is not None:
            self._monitoring_server.stop()
        patient = patient and self._hopeless is None
        if not self._pipeline.stop(_DRAIN_S):
            _log.warning("some work did not end within %.1f s and was abandoned", _DRAIN_S)
        failure = self._hopeless or self._pipeline.failure
        if self._box is not None:
            self._box.close(None if failure is None else "stuck" if failure is self._hopeless else "failure")
        left_s = max(_LEAST_S, ends_s - time.monotonic())
        closing = threading.Thread(target=self._delivery.close, args=(_FILES_AT_THE_END_S if patient else left_s,), daemon=True)
        closing.start()  # a slow disk and a frozen broker at once, not one after the other
        self._link.stop(reason if failure is None else str(failure), max(_LEAST_S, left_s - _GOODBYE_S))
        closing.join()
        self._instance_lock.release()
        failure = failure or self._delivery.failure
        if failure is not None:
            raise failure

    def _observe(self) -> None:
        observed = self._config.monitoring
        self._monitoring_server = MonitoringServer.of(
            observed,
            lambda: build_labels(self._model, self._pipeline.backend),
            self.metrics,
            self._pipeline,
            self._link,
            lambda: self._reported,
            self._stuck,
        )
        self._monitoring_server.start()
        _log.info("serving /metrics and /healthz on %s port %d", observed.host, self._monitoring_server.port)

    def _stuck(self) -> list[str]:
        """Loops that hang, the main thread's included."""
        now_s = time.monotonic()
        return [name for name, heartbeat in {**self._working(), "main": self._turning}.items() if heartbeat.stuck(now_s)]

    def _open_engine(self) -> Backend:
        return open_backend(self._model, self._config.model)

    def _reopening(self, config: Config) -> Callable[[], list[Sink]] | None:
        """Files that fail are opened again only by a daemon that goes on without them."""
        return (lambda: open_sinks(config)) if self._forever else None

    def _command_handler_of(self, audit: Audit | None) -> CommandHandler | None:
        return CommandHandler(self, self._link.reply, audit) if audit is not None else None

    def _take_command(self, command: Command) -> None:
        command_handler = self._command_handler
        if command_handler is not None:
            command_handler.take(command)

    def _prepare(self, config: Config) -> PreparedReload:
        return prepare(self._config, config, self._model, self._refiner, self._instance_lock, self.metrics)

    def _apply(self, new: PreparedReload) -> None:
        """Goes over to what is prepared: nothing here can be refused any more."""
        changes = new.changes
        if self._box is not None and new.model is not self._model:
            self._box.exchange(new.model)
        self._config, self._model, self._refiner = new.config, new.model, new.refiner
        if new.instance_lock is not None:
            self._instance_lock.release()
            self._instance_lock = new.instance_lock
        if "log" in changes.sections:
            logging.getLogger("edgepose").setLevel(new.config.log.level.upper())
        if "commands" in changes.sections:
            self._command_handler = self._command_handler_of(new.audit)
        self._hang_detector.give_up_after_s = new.config.health.stuck_after_s
        if new.sinks is not None:  # before the cameras: a film is one a camera
            self._delivery.exchange(new.sinks, self._reopening(new.config), _FILES_S)
        self._pipeline.change(new.config, new.model.info, new.backend, new.refiner)
        for camera in changes.removed:
            self._link.forget(f"cameras/{camera}/status")
        if changes.publisher:
            self._link.exchange(new.config, "another configuration")
        else:
            self._link.say_info()

    def _working(self) -> dict[str, Heartbeat]:
        """The loops whose progress the watchdog lives on."""
        return {**self._pipeline.heartbeats(), "publisher": self._link.heartbeat}

    def _where(self, stage: str) -> str:
        writer = self._delivery.writer
        return writer.where() if writer is not None and stage == writer.name else self._pipeline.where(stage)

    def _camera_changed(self, state: CameraState) -> None:
        if self._box is not None:
            self._box.state(state)
        self._link.publish_retained(f"cameras/{state.camera}/status", camera_message(state, time.time_ns()))

    def _other_restarts(self) -> dict[str, int]:
        writer = self._delivery.writer
        return {
            "publisher": self._link.replaced,
            "writer": writer.restarts if writer is not None else 0,
            "main": self._guarded_tasks.failures,
        }

    def _report(self, now_s: float) -> None:
        states = self.states()
        restarts = self._pipeline.restarts() | {name: count for name, count in self._other_restarts().items() if count}
        around = Circumstances(
            reconnects=self._pipeline.reconnects(),
            image_qualities=self._pipeline.image_qualities(),
            restarts=restarts,
            stuck=self._hang_detector.stuck,
            cpu_fallback=bool(getattr(self._pipeline.backend, "fallback", False)),
            black_box_drops=self._box.drops if self._box is not None else None,
            commands_ignored=self._link.commands_ignored,
            broker_reconnects=self._link.reconnects,
            events_waiting=self._link.events_waiting,
            store_failed=self._link.store_failed,
            duplicate_session=self._link.duplicate_session,
            reload_refused=self._reloads.refusal,
        )
        health = self._reported = self._health.report(states, self._link.sent, self._link.drops, now_s, around)
        self._link.publish("health", health)
        rate = sum(camera.frames_per_second for camera in health.cameras.values())
        streaming = sum(state.state == "streaming" for state in states)
        self._notifier.status(f"{streaming} of {len(states)} cameras streaming, {rate:.1f} frames/s, {health.memory_mb:.0f} MiB")
