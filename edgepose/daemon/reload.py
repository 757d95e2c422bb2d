"""Another configuration while the daemon runs: everything that can fail about it is done before anything is changed."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from edgepose.config.diff import Changes
from edgepose.config.schema import Config
from edgepose.daemon.audit import Audit
from edgepose.daemon.commands import CommandResult, Done
from edgepose.daemon.instance import InstanceLock
from edgepose.engine.backend import Backend, open_backend, pose_model, refiner_model
from edgepose.engine.selection import Selection, select, with_settings
from edgepose.errors import ConfigError, EdgeposeError
from edgepose.flight.service import PreparedFlight, prepare_flight
from edgepose.model.file import ModelFile
from edgepose.mqtt.settings import PublisherSettings, ReloadingSettings
from edgepose.pipeline.file_sinks import open_sinks
from edgepose.pipeline.file_writer import Sink
from edgepose.pipeline.refiner import Refiner
from edgepose.supervision.systemd import Notifier
from edgepose.telemetry.metrics import Metrics
from edgepose.validation.output_paths import refuse_clashes, refuse_unwritable
from edgepose.validation.sources import refuse_impossible
from edgepose.webhook.settings import WebhookSettings

_log = logging.getLogger(__name__)


class PreparedReload(msgspec.Struct, frozen=True, eq=False):
    """Everything that another configuration needs, opened.

    Attributes:
        config: the new configuration.
        selection: of its backends.
        changes: its differences from the one in use.
        model: in use from now on.
        backend: None where the one in use stays.
        refiner: in use from now on, the old one where it stays.
        sinks: None where the files stay.
        webhook: settings of the webhook, None where no events are posted.
        instance_lock: None where the old one stays.
        audit: of commands, None where none are accepted.
        flight: telemetry, and places on the map.
    """

    config: Config
    selection: Selection
    changes: Changes
    model: ModelFile
    backend: Backend | None
    refiner: Refiner | None
    sinks: list[Sink] | None
    webhook: WebhookSettings | None
    instance_lock: InstanceLock | None
    audit: Audit | None
    flight: PreparedFlight


def prepare(
    old: Config,
    new: Config,
    selected: Selection,
    model: ModelFile,
    refiner: Refiner | None,
    instance_lock: InstanceLock,
    metrics: Metrics,
    commit: Callable[[], None] = lambda: None,
) -> PreparedReload:
    """Open what a new configuration needs, while the old one runs; where one part cannot be opened, none stays open.

    Args:
        old: the configuration in use.
        new: the new one.
        selected: backends in use.
        model: in use.
        refiner: in use.
        instance_lock: in use.
        metrics: of the daemon.
        commit: called when nothing else can fail.

    Raises:
        EdgeposeError: the new configuration cannot be run, or `commit` refuses it.
    """
    changes = Changes.between(old, new)
    if not new.cameras:
        raise ConfigError("no cameras are configured; expected at least one")
    refuse_impossible(new.cameras, changes.added + changes.changed)
    refuse_clashes(new)
    refuse_unwritable(new, old)
    with ExitStack() as undo:
        if changes.publisher and new.mqtt.enabled:
            PublisherSettings.of(new)
            ReloadingSettings(new.mqtt)  # reads password and certificates
        webhook = WebhookSettings.of(new)
        new_lock = None
        if not instance_lock.holds(new):
            new_lock = InstanceLock(new)
            new_lock.take()
            undo.callback(new_lock.release)
        backend: Backend | None = None
        # Engines in use are not tried again: that would need the memory of a second one.
        selection = selected if selected.now.backend == "tensorrt" and _same_networks(old, new) else select(new)
        unchanged = model.server is not None and old.model == new.model  # a server that is away must not refuse other changes
        found = model if unchanged else pose_model(selection.now)
        if found.sha256 != model.sha256 or selected.now != selection.now:
            model, backend = found, open_backend(found, selection.now, build=False)
            undo.callback(backend.close)
        if _refiner_differs(with_settings(old, selected.now), with_settings(new, selection.now), refiner):
            refiner = Refiner.configured(with_settings(new, selection.now), metrics)
            if refiner is not None:
                undo.callback(refiner.close)
                refiner.open()
        sinks = None
        if changes.files:
            sinks = open_sinks(new)
            for sink in sinks:
                undo.callback(sink.close)
        audit = Audit.configured(new.commands)
        flight = prepare_flight(new)
        commit()
        undo.pop_all()
    return PreparedReload(new, selection, changes, model, backend, refiner, sinks, webhook, new_lock, audit, flight)


class ReloadRequest(msgspec.Struct, frozen=True):
    """A reload that was asked for.

    Attributes:
        done: receives the outcome.
        load: reads the configuration; None reads it again as at the start.
        commit: called in another thread when all is prepared and before anything changes; EdgeposeError refuses the reload.
    """

    done: Done
    load: Callable[[], Config] | None = None
    commit: Callable[[], None] = lambda: None


class Reloads:
    """The reloads, executed one after the other, step by step in the main thread's `turn`.

    Attributes:
        failure: why the newest configuration is not in use, one sentence; None where it is.
    """

    def __init__(
        self,
        load: Callable[[], Config] | None,
        prepare: Callable[[Config, Callable[[], None]], PreparedReload],
        apply: Callable[[PreparedReload], None],
        notifier: Notifier,
    ) -> None:
        """
        Args:
            load: reads the configuration; None where it cannot be read again.
            prepare: opens what it needs, in another thread, and commits; EdgeposeError where it is refused.
            apply: applies it, in the main thread.
            notifier: the service manager.
        """
        self._load = load
        self._prepare = prepare
        self._apply = apply
        self._notifier = notifier
        self._requested: list[ReloadRequest] = []
        self._answering: list[ReloadRequest] = []
        self._reading: _Reading | None = None
        self.failure: str | None = None

    def request(self, request: ReloadRequest) -> None:
        """Start a reload at the next turn, or after the one that runs."""
        self._requested.append(request)

    def turn(self) -> None:
        """Start what was requested, and apply what is prepared."""
        if self._reading is None and self._requested:
            self._notifier.reloading(time.monotonic_ns())
            # One reading of the configuration answers all who ask for one; another configuration is read alone.
            plain = [request for request in self._requested if request.load is None]
            self._answering = self._requested[:1] if self._requested[0].load is not None else plain
            self._requested = [request for request in self._requested if request not in self._answering]
            self._reading = _Reading(self._read)
            self._reading.start()
        elif self._reading is not None and not self._reading.is_alive():
            reading, self._reading = self._reading, None
            self._end(reading.prepared, reading.failure)

    def _read(self) -> PreparedReload:
        request = self._answering[0]
        load = request.load or self._load
        if load is None:
            raise ConfigError("this daemon was started without a configuration that can be reloaded; expected `edgepose run`")
        return self._prepare(load(), request.commit)

    def _end(self, prepared: PreparedReload | None, failure: str | None) -> None:
        changes: list[str] | None = None
        if prepared is not None:
            try:
                self._apply(prepared)
            except Exception as error:  # an internal fault must not leave anybody without an answer
                failure = f"only a part of it could be applied: unexpected {type(error).__name__}: {error}"
                _log.error("the new configuration is in use as far as possible: %s", failure)
            else:
                changes = prepared.changes.words()
                _log.info("the configuration was reloaded: %s", ", ".join(changes) or "nothing has changed")
        elif self._answering[0].load is None:
            _log.error("the new configuration is refused, and the old one stays: %s", failure)
        if prepared is not None or self._answering[0].load is None:
            self.failure = failure
        self._notifier.ready()
        for request in self._answering:
            request.done(CommandResult(reason=failure, changes=changes))


class _Reading(threading.Thread):
    """A thread that reads and prepares in the background, since opening a network takes long."""

    def __init__(self, read: Callable[[], PreparedReload]) -> None:
        super().__init__(name="reload", daemon=True)
        self._read = read
        self.prepared: PreparedReload | None = None
        self.failure: str | None = None

    def run(self) -> None:
        try:
            self.prepared = self._read()
        except EdgeposeError as error:
            self.failure = "; ".join(str(error).splitlines())
        except Exception as error:  # an internal fault must not end the daemon
            self.failure = f"unexpected {type(error).__name__}: {error}"


def _same_networks(old: Config, new: Config) -> bool:
    return (old.model, old.refine.path, bool(old.refine.people)) == (new.model, new.refine.path, bool(new.refine.people))


def _refiner_differs(old: Config, new: Config, refiner: Refiner | None) -> bool:
    if refiner is None or not new.refine.people:
        return (refiner is not None) != bool(new.refine.people)
    if refiner.model.server is not None and (old.refine.path, old.model) == (new.refine.path, new.model):
        return False
    return (old.model.backend, old.model.threads) != (new.model.backend, new.model.threads) or (
        refiner_model(new.refine.path, new.model).sha256 != refiner.model.sha256
    )
