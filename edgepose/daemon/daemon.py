"""The daemon: assembles all parts, supervises them, changes them while they run, and stops them in order."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepose.capture.redact import conceal
from edgepose.config.schema import Config
from edgepose.daemon.audit import Audit
from edgepose.daemon.commands import CommandHandler, Done, Service
from edgepose.daemon.device_clock import DeviceClock
from edgepose.daemon.flight.parts import FlightParts
from edgepose.daemon.forgetting import Forgetting, RunningParts
from edgepose.daemon.health import DaemonSnapshot, health_message, status_line
from edgepose.daemon.info import build_labels, camera_message, info_message
from edgepose.daemon.instance import InstanceLock
from edgepose.daemon.place_states import PlaceStates
from edgepose.daemon.reload import PreparedReload, ReloadRequest, Reloads, prepare
from edgepose.daemon.running_networks import RunningNetworks
from edgepose.daemon.watchdog import Watchdog
from edgepose.engine.backend import Backend
from edgepose.engine.early_opening import EarlyOpening
from edgepose.errors import ConfigError, EdgeposeError
from edgepose.frame import Frame
from edgepose.messages.camera_state import CameraState
from edgepose.messages.schema import topic_address
from edgepose.messages.structs import BundleMessage, HealthMessage, InfoMessage
from edgepose.mqtt.command_inbox import Command
from edgepose.mqtt.presence import EngineBuild
from edgepose.mqtt.publisher import MqttPublisher
from edgepose.mqtt.settings import PublisherSettings
from edgepose.pipeline.delivery import Delivery, Onlooker, Sink
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.pipeline.pipeline import Pipeline
from edgepose.pipeline.postprocess_thread import TakePeople
from edgepose.recorder.configured import configured_box
from edgepose.storage.access import limit_access
from edgepose.supervision.guarded_tasks import GuardedTasks
from edgepose.supervision.heartbeat import Heartbeat
from edgepose.supervision.systemd import Notifier
from edgepose.telemetry.heat import HeatPolicy, reduced
from edgepose.telemetry.metrics import Metrics
from edgepose.telemetry.sensors import MachineStats
from edgepose.validation.credentials import ExposedCredentials
from edgepose.validation.output_paths import refuse_clashes
from edgepose.validation.sources import refuse_impossible
from edgepose.webhook.exchangeable import ExchangeableWebhook
from edgepose.webhook.settings import WebhookSettings

if TYPE_CHECKING:  # parts that not every daemon has
    from edgepose.daemon.engine_upgrade import Upgraded
    from edgepose.daemon.monitoring import MonitoringServer
    from edgepose.mqtt.session import TakeIncoming
    from edgepose.recorder.folder import Recording

_log = logging.getLogger(__name__)

_STOP_S = 2.6  # of three seconds; the rest is for the interpreter's shutdown
_DRAIN_S = 0.9  # of these, for frames on their way
_GOODBYE_S = 0.5  # what the publisher takes beyond its limit at most
_LEAST_S = 0.3
_SERVICE_S = 0.3
_FILES_S = 1.0  # for files that others replace
_MAIN_STUCK_S = 15.0  # a turn takes a tenth of a second
_FILES_AT_THE_END_S = 60.0  # when nobody waits for the end


class Daemon:
    """All parts of one configuration, assembled."""

    def __init__(
        self,
        config: Config,
        notifier: Notifier,
        *,
        forever: bool = True,
        overwrite: bool = False,
        load: Callable[[], Config] | None = None,
        service: Service | None = None,
        take_bundle: "TakeIncoming | None" = None,
        early: EarlyOpening | None = None,
    ) -> None:
        """Open what can be refused: model, password, files.

        Args:
            config: what to run.
            notifier: the service manager.
            forever: whether cameras that cannot be opened are tried again; otherwise they end the run.
            overwrite: whether the first frame replaces existing files.
            load: reads the configuration again; None where that is not possible.
            service: a part beside the work, started and stopped with it.
            take_bundle: receives bundles, from another thread.
            early: opening of the pose network, which has begun.

        Raises:
            ModelError, EngineError: as of `RunningNetworks`.
            ConfigError: as of `RunningNetworks`, the password or a certificate cannot be read, or a file that is written is also read.
            SourceError: the file of a camera does not exist, or its pipeline is impossible; what may come later is waited for.
            OutputError: a file cannot be written.
        """
        refuse_clashes(config)
        if forever:
            refuse_impossible(config.cameras)
            conceal(camera.source for camera in config.cameras.values())
        self._config = config
        self._exposed_credentials = ExposedCredentials()
        self._exposed_credentials.warn(config)
        self._forever = forever
        self._instance_lock = InstanceLock(config)
        self._notifier = notifier
        self._clock = DeviceClock(config)
        self._started_s = time.monotonic()
        self._started_ns = time.time_ns()
        self._metrics = Metrics()
        self._networks = RunningNetworks(config, self._metrics, early)
        self._failure: EdgeposeError | None = None
        self._flight = FlightParts(config)
        self._heat = HeatPolicy(config.heat)
        self._box = configured_box(config, self._networks.model)
        settings = PublisherSettings.of(config, self._flight.service.places)
        self._publisher = MqttPublisher(settings, self._take_command, take_bundle)
        self._places = PlaceStates(self._publisher)
        self._webhook = ExchangeableWebhook(WebhookSettings.of(config))
        self._delivery = Delivery(
            self._publisher,
            open_sinks(config, overwrite=overwrite),
            self._metrics,
            self._reopening(config),
            occupancy=self._places.occupancy,
            webhook=self._webhook.sender,
            profile=config.privacy.profile,
        )
        self._pipeline = Pipeline(
            config,
            self._networks.model.info,
            self._networks.open,
            self._metrics,
            self._delivery.deliver,
            self._camera_changed,
            refiner=self._networks.refiner,
            forever=forever,
            box=self._box,
            flight=self._flight.service,
        )
        self._command_handler = self._command_handler_of(Audit.configured(config.commands))
        self._reloads = Reloads(load, self._prepare, self._apply, notifier)
        self._forgetting = Forgetting(config, self._stored_parts, lambda: self._clock.unset is None)
        self._next_health_s = self._started_s + config.health.interval_s
        self._watchdog = Watchdog(notifier, self._pipeline, self._publisher, self._delivery, config.health.stuck_after_s, self._started_s)
        self._turning = Heartbeat(_MAIN_STUCK_S)
        self._guarded_tasks = GuardedTasks()
        self._reported: DaemonSnapshot | None = None  # the snapshot of the last health message
        self._health: HealthMessage | None = None
        self._monitoring_server: MonitoringServer | None = None
        self._service = service

    def start(self, broker_within_s: float = 0.0) -> None:
        """Open the engine and the cameras, and announce that the daemon runs.

        Args:
            broker_within_s: how long the cameras may wait for the broker, so that a short file does not end before the connection is open.

        Raises:
            EngineError: no backend could be opened.
            UnavailableError: a daemon of the same name or with the same black box runs here, or the port for monitoring is taken.
        """
        self._instance_lock.take()
        try:
            self._begin(broker_within_s)
        except BaseException:
            if self._monitoring_server is not None:
                self._monitoring_server.stop()
            if self._service is not None:
                self._service.stop(0.0)
            self._instance_lock.release()
            raise

    def _begin(self, broker_within_s: float) -> None:
        if self._clock.unset is not None:
            self._clock.log()
        self._networks.log(self._pipeline.open())
        self._networks.log_refiner(self._config)
        if self._config.monitoring.enabled:
            from edgepose.daemon.monitoring import MonitoringServer

            self._monitoring_server = MonitoringServer.of(self._config.monitoring, self.snapshot)
            self._monitoring_server.start()
        if self._service is not None:
            self._service.start(self)
        if self._box is not None:  # last of what can be refused: a run that never started leaves nothing behind
            self._box.start()
        self._places.configure(self._config, self._flight.service.places, self._started_ns)
        self._webhook.start()
        self._networks.changed(self._pipeline.networks())
        self._publisher.start(self._info(), broker_within_s)
        self._flight.start(self._config)
        self._pipeline.start()
        self._notifier.ready()
        self._networks.begin_upgrade(self._config)

    def finished(self) -> bool:
        """Return whether there is nothing left to do: all files are processed, or the work has failed, or hangs permanently."""
        return self._failure is not None or self._watchdog.hopeless is not None or self._pipeline.finished()

    def snapshot(self, now_s: float | None = None, *, drain: bool = False) -> DaemonSnapshot:
        """Return the status of all parts, once the daemon has started; from any thread.

        Args:
            now_s: reading of the monotonic clock; None reads it.
            drain: whether the latency samples are taken out; only the health report does that.
        """
        now_s = time.monotonic() if now_s is None else now_s
        pipeline, publisher, writer = self._pipeline.stats(), self._publisher.stats(), self._delivery.writer
        webhook = self._webhook.stats()
        restarts = {
            "publisher": publisher.replaced,
            "writer": writer.restarts if writer is not None else 0,
            "webhook": webhook.restarts if webhook is not None else 0,
            "main": self._guarded_tasks.failures,
        }
        return DaemonSnapshot(
            time_ns=time.time_ns(),
            now_s=now_s,
            started_s=self._started_s,
            build=build_labels(self._networks.model, self._pipeline.backend, self._networks.refiner),
            not_better="; ".join(filter(None, (*self._pipeline.fallback_reasons(), self._networks.selection.why))),
            building=self._networks.progress,
            pipeline=pipeline,
            publisher=publisher,
            webhook=webhook,
            recorder=self._box.stats() if self._box is not None else None,
            service=self._service.stats() if self._service is not None else None,
            metrics=self._metrics.stats(drain=drain),
            machine=MachineStats.read(),
            restarts={**pipeline.restarts, **{name: count for name, count in restarts.items() if count}},
            stuck=(*self._watchdog.stuck, *(("main",) if self._turning.stuck(now_s) else ())),
            reload_refused=self._reloads.failure,
            clock_unset=self._clock.unset,
            flight=self._flight.service.stats(),
            heat=(self._heat.steps, self._heat.reason),
            health=self._health,
        )

    def tick(self, now_s: float) -> None:
        """Supervise the work loops, feed the watchdog and report health when it is due; called several times a second.

        A part that fails affects no other part.
        """
        self._turning.beat()
        do = self._guarded_tasks.do
        do("supervising the cameras", lambda: self._pipeline.replace_stuck(now_s))
        if self._box is not None:
            box = self._box
            do("supervising the black box", lambda: box.watch(self._pipeline.stats().restarts))
        do("supervising the publisher", lambda: self._publisher.supervise(now_s))
        if self._command_handler is not None:
            command_handler = self._command_handler
            do("executing commands", lambda: command_handler.turn(now_s))
        if self._service is not None:
            service = self._service
            do("the service beside the work", lambda: service.turn(now_s))
        do("reloading", self._reloads.turn)
        do("deleting stored data", lambda: self._forgetting.turn(now_s))
        do("changing the networks", self._turn_networks)
        do("watching the heat", lambda: self._turn_heat(now_s))
        do("supervising the work", lambda: self._watchdog.turn(now_s))
        if now_s >= self._next_health_s:
            self._next_health_s += self._config.health.interval_s * (1 + (now_s - self._next_health_s) // self._config.health.interval_s)
            do("checking the clock", lambda: self._clock.check(now_s))
            do("reporting health", lambda: self._report(now_s))

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._config

    def reload(self, done: Done = lambda _: None) -> None:
        """Start a reload of the configuration; it is applied in a later `tick`, or refused as a whole.

        Args:
            done: receives the outcome.
        """
        self._reloads.request(ReloadRequest(done))

    def exchange(self, request: ReloadRequest) -> None:
        """Start a reload of another configuration than that of the start."""
        self._reloads.request(request)

    def tell_bundle(self, message: BundleMessage | None) -> None:
        """Set the state of the bundles; None clears it."""
        self._publisher.publish_retained(topic_address("bundle"), message or b"")

    def fail(self, failure: EdgeposeError) -> None:
        """End the work because of a failure."""
        self._failure = failure

    def configure(self, config: Config) -> None:
        """Apply a configuration with other thresholds."""
        self._config = config
        self._change_pipeline(None)

    def record(self, reason: str) -> "Recording":
        """Start a recording of the black box.

        Raises:
            ConfigError: there is none.
            UnavailableError: a recording for the same reason was made in the last minute, or the disk cannot keep up.
        """
        if self._box is None:
            raise ConfigError("there is no black box; expected black_box.path to be set at the start")
        return self._box.record(reason)

    def pause(self, camera: str) -> None:
        """Close a camera's source."""
        self._pipeline.pause(camera)

    def resume(self, camera: str) -> None:
        """Open a camera's source again."""
        self._pipeline.resume(camera)

    def tap(self, camera: str, take: Callable[[Frame], None]) -> None:
        """Call `take` with the next frame of a camera, from its thread."""
        self._pipeline.tap(camera, take)

    def tap_people(self, camera: str, take: TakePeople) -> None:
        """Call `take` with the next frame of a camera and the people in it, from another thread."""
        self._pipeline.tap_people(camera, take)

    def watch(self, onlooker: Onlooker) -> None:
        """Pass the result of each frame to `onlooker` too, from the postprocess thread."""
        self._delivery.onlooker = onlooker

    def stop(self, reason: str, *, patient: bool) -> None:
        """Process the frames in flight, publish `stopped` with the reason, and complete the files.

        Args:
            reason: goes into the status message.
            patient: whether the files get all the time they need; otherwise all is over within three seconds.

        Raises:
            EdgeposeError: the failure that had ended the work before.
        """
        ends_s = time.monotonic() + _STOP_S
        self._notifier.stopping()
        self._networks.abandon_upgrade()
        if self._monitoring_server is not None:
            self._monitoring_server.stop()
        if self._service is not None:
            self._service.stop(_SERVICE_S)
        self._flight.close()
        patient = patient and self._watchdog.hopeless is None
        if not self._pipeline.stop(_DRAIN_S):
            _log.warning("some work did not end within %.1f s and was abandoned", _DRAIN_S)
        failure = self._failure or self._watchdog.hopeless or self._pipeline.failure
        if self._box is not None:
            self._box.close(None if failure is None else "stuck" if failure is self._watchdog.hopeless else "failure")
        left_s = max(_LEAST_S, ends_s - time.monotonic())
        closing = threading.Thread(target=self._delivery.close, args=(_FILES_AT_THE_END_S if patient else left_s,), daemon=True)
        closing.start()  # a slow disk and a frozen broker at the same time, not one after the other
        posting = self._webhook.closing(left_s)
        self._publisher.stop(reason if failure is None else str(failure), max(_LEAST_S, left_s - _GOODBYE_S))
        closing.join()
        posting.join()
        if self._command_handler is not None:
            self._command_handler.close()
        self._instance_lock.release()
        failure = failure or self._delivery.failure
        if failure is not None:
            raise failure

    def _report(self, now_s: float) -> None:
        snapshot = self.snapshot(now_s, drain=True)
        health = health_message(snapshot, self._reported)
        self._reported, self._health = snapshot, health
        self._publisher.publish("health", health)
        self._flight.tell(health)
        self._notifier.status(status_line(health))

    def _info(self, backend: Backend | None = None) -> InfoMessage:
        """Return the message about what runs; `backend` is one that is used from the next frame on."""
        networks = self._networks
        running = backend or self._pipeline.backend
        return info_message(self._config, networks.model, running, networks.refiner, self._started_ns, networks.selection.why)

    def _turn_networks(self) -> None:
        """Follow the build of a better engine, and report a network that was opened again."""
        if self._networks.changed(self._pipeline.networks()):
            self._exchange_model_of_box()
            self._publisher.publish_retained("info", self._info())
        outcome = self._networks.follow_upgrade()
        if outcome is None:
            return
        from edgepose.daemon.engine_upgrade import Upgraded

        if not isinstance(outcome, Upgraded | EdgeposeError):
            self._notifier.status(f"building the engine: {outcome.percent:.0f} %, {outcome.phase}")
            self._publisher.tell_build(EngineBuild(round(outcome.percent), outcome.phase))
            return
        self._publisher.tell_build(None)
        if isinstance(outcome, Upgraded):
            self._adopt(outcome)
        elif self._networks.selection.by_name:  # nothing takes its place for good
            self._failure = outcome
        else:
            self._publisher.publish_retained("info", self._info())

    def _adopt(self, upgraded: "Upgraded") -> None:
        """Run on a better engine from the next frame on."""
        self._exchange_model_of_box()
        self._change_pipeline(upgraded.backend)
        self._networks.log(upgraded.backend)
        self._publisher.publish_retained("info", self._info(upgraded.backend))

    def _turn_heat(self, now_s: float) -> None:
        if self._config.heat.enabled and self._heat.watch(now_s, self._flight.battery):
            self._change_pipeline(None)

    def _change_pipeline(self, backend: Backend | None) -> None:
        """Apply the configuration in use, less what the heat policy has given up; `backend` takes the place of the one in use."""
        info, steps, running = self._networks.model.info, self._heat.steps, backend or self._pipeline.backend
        config = reduced(self._config, steps, info, running.name)
        self._pipeline.change(config, info, backend, self._networks.refiner)
        self._pipeline.process_every(2 if "fewer_frames" in steps else 1)

    def _exchange_model_of_box(self) -> None:
        if self._box is not None:
            self._box.exchange(self._networks.model)

    def _reopening(self, config: Config) -> Callable[[], list[Sink]] | None:
        """Return what opens files again after a failure; only a daemon that runs forever does that."""
        return (lambda: open_sinks(config)) if self._forever else None

    def _stored_parts(self) -> RunningParts:
        return RunningParts(
            self._config, self._publisher, self._webhook.sender, self._box, self._delivery, self._places.occupancy, self._command_handler
        )

    def _command_handler_of(self, audit: Audit | None) -> CommandHandler | None:
        return CommandHandler(self, self._publisher.reply, audit) if audit is not None else None

    def _take_command(self, command: Command) -> None:
        if (command_handler := self._command_handler) is not None:
            command_handler.take(command)

    def _camera_changed(self, state: CameraState) -> None:
        if self._box is not None:
            self._box.state(state)
        self._publisher.publish_retained(topic_address("camera-status", state.camera), camera_message(state, time.time_ns()))

    def _prepare(self, config: Config, commit: Callable[[], None]) -> PreparedReload:
        networks = self._networks
        running = networks.selection, networks.model, networks.refiner
        return prepare(self._config, config, *running, self._instance_lock, self._metrics, commit)

    def _apply(self, new: PreparedReload) -> None:
        """Apply a prepared reload: nothing here can be refused any more."""
        changes = new.changes
        conceal(camera.source for config in (self._config, new.config) for camera in config.cameras.values())
        self._config = new.config
        reselected = self._networks.exchange(new.selection, new.model, new.refiner)
        if reselected:
            self._publisher.tell_build(None)
        self._exchange_model_of_box()
        if new.instance_lock is not None:
            self._instance_lock.release()
            self._instance_lock = new.instance_lock
        self._exposed_credentials.warn(new.config)
        if "files" in changes.sections:
            limit_access(new.config.files.access)
        if "log" in changes.sections:
            logging.getLogger("edgepose").setLevel(new.config.log.level.upper())
        if "commands" in changes.sections:
            if self._command_handler is not None:
                self._command_handler.close()
            self._command_handler = self._command_handler_of(new.audit)
        self._watchdog.configure(new.config.health.stuck_after_s)
        if new.sinks is not None:  # before the cameras: there is one video per camera
            self._delivery.exchange(new.sinks, self._reopening(new.config), _FILES_S)
        self._delivery.profile = new.config.privacy.profile
        self._flight.change(new.config, new.flight)
        self._heat.configure(new.config.heat)
        self._change_pipeline(new.backend)
        self._places.withdraw(new.config, new.flight.places)
        for camera in changes.removed:
            self._publisher.clear(topic_address("camera-status", camera))
        if changes.publisher:
            self._publisher.change(PublisherSettings.of(new.config, new.flight.places), self._info(), "another configuration")
        else:
            self._publisher.publish_retained("info", self._info())
        self._places.configure(new.config, new.flight.places, time.time_ns())
        if reselected:
            self._networks.begin_upgrade(self._config)
        if changes.webhook:
            self._webhook.exchange(new.webhook)
            self._delivery.webhook = self._webhook.sender
