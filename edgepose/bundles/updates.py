"""Bundles while the daemon runs: received, checked, tried, confirmed or rolled back; each step is a retained state, and recorded.

All but `take` is for the main thread.
"""

import logging
import queue
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import UNSET
from msgspec.structs import replace

from edgepose.bundles.configured import BundledConfiguration
from edgepose.config.load import device_name
from edgepose.config.retention import DAY_NS
from edgepose.config.schema import BundlesConfig, Config
from edgepose.daemon.commands import CommandResult
from edgepose.daemon.daemon import Daemon
from edgepose.daemon.forgetting import RETENTION_S
from edgepose.daemon.reload import ReloadRequest
from edgepose.errors import EdgeposeError
from edgepose.messages.structs import BundleMessage, timestamp
from edgepose.storage.span import Span
from edgepose.supervision.guarded_tasks import GuardedTasks

if TYPE_CHECKING:  # a device without bundles loads nothing of them
    from edgepose.bundles.manifest import Bundle
    from edgepose.bundles.staging import Staging
    from edgepose.bundles.store import BundleStore
    from edgepose.bundles.trial import Trial
    from edgepose.mqtt.connection import Incoming

_log = logging.getLogger(__name__)

WAITING_LIMIT = 16
"""Most messages that wait to be verified; more are dropped."""

_FORGET_FIRST_S = 60.0
_LOOK_S = 0.5  # between looks at a trial: a snapshot of everything is not free

State = Literal["none", "received", "fetching", "checking", "trying", "active", "refused", "rolled_back"]


class RolledBackError(EdgeposeError):
    """The configuration before a bundle cannot be used while the daemon runs; another start uses it."""


class Updates:
    """The bundles of a running daemon.

    Args:
        configured: the configuration, with and without bundles.
        complete: adds to a configuration what the device itself keeps of it; ConfigError where that does not fit.
        now: reads the wall clock.
    """

    def __init__(
        self,
        configured: BundledConfiguration,
        complete: Callable[[Config], Config] = lambda config: config,
        *,
        now: Callable[[], datetime] = lambda: datetime.fromtimestamp(time.time(), timezone.utc),
    ) -> None:
        self._configured = configured
        self._complete = complete
        self._now = now
        self._waiting: queue.Queue[Incoming] = queue.Queue(maxsize=WAITING_LIMIT)
        self._guarded = GuardedTasks()
        self._wanted: Bundle | None = None  # the newest that was accepted and waits
        self._staging: Staging | None = None
        self._applying: Bundle | None = None  # while the daemon prepares it
        self._returning = False  # while the daemon returns to what it ran before
        self._trial: Trial | None = None
        self._next_look_s = 0.0
        self._told: BundleMessage | None = None
        self._state: tuple[State, int | None, str | None] = ("none", None, None)  # with number and key of the newest bundle
        self._reason: str | None = None
        self._began = False
        self._next_forgetting_s: float | None = None

    def take(self, incoming: "Incoming") -> None:
        """Queue a message; returns immediately, from any thread."""
        try:
            self._waiting.put_nowait(incoming)
        except queue.Full:
            _log.warning("a bundle was dropped: %d messages wait already", WAITING_LIMIT)

    def turn(self, daemon: Daemon, now_s: float) -> None:
        """Do what is due; called several times a second."""
        self._guarded.do("updating from a bundle", lambda: self._turn(daemon, now_s))

    def _turn(self, daemon: Daemon, now_s: float) -> None:
        config = daemon.config.bundles
        store = self._configured.store
        if not config.enabled or store is None:
            if self._told is not None:
                self._told = None
                daemon.tell_bundle(None)
            return
        if not self._began:
            self._began = True
            self._begin(daemon, store, config, now_s)
        self._configured.turn(now_s)
        self._forget_old(daemon, now_s)
        while not self._waiting.empty():
            self._receive(daemon, store, config, self._waiting.get_nowait())
        if self._staging is not None and not self._staging.is_alive():
            staging, self._staging = self._staging, None
            self._end_staging(daemon, store, staging, now_s)
        idle = self._staging is None and self._applying is None and self._trial is None and not self._returning
        if idle and self._wanted is not None:
            from edgepose.bundles.staging import Staging

            self._staging, self._wanted = Staging(self._wanted, store, config), None
            self._enter("fetching" if self._staging.bundle.manifest.files else "checking", self._staging.bundle)
            self._staging.start()
        if self._trial is not None and now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._look(daemon, store, config, self._trial, now_s)
        self._tell(daemon, store)

    def _begin(self, daemon: Daemon, store: "BundleStore", config: BundlesConfig, now_s: float) -> None:
        """Continue where the last run ended."""
        from edgepose.bundles.trial import Progress, Trial

        pointer = store.pointer
        if pointer.trial is not None:
            self._state = ("trying", pointer.current, None)
            self._trial = Trial(Progress(), pointer.trial.cameras, now_s + config.trial_s)
        elif pointer.attempt is not None:
            self._state = (pointer.attempt.state, pointer.attempt.number, pointer.attempt.key)
            self._reason = pointer.attempt.reason
        elif pointer.current is not None:
            self._state = ("active", pointer.current, None)

    def _forget_old(self, daemon: Daemon, now_s: float) -> None:
        """Delete lines of the record that are too old, once an hour; nothing before the clock is set."""
        if self._next_forgetting_s is None:
            self._next_forgetting_s = now_s + _FORGET_FIRST_S
        if now_s < self._next_forgetting_s:
            return
        self._next_forgetting_s = now_s + RETENTION_S
        if daemon.snapshot().clock_unset is None:
            age_ns = int(daemon.config.retention.audit_days * DAY_NS)
            self._configured.forget(Span(0, int(self._now().timestamp() * 1e9) - age_ns))

    def _receive(self, daemon: Daemon, store: "BundleStore", config: BundlesConfig, incoming: "Incoming") -> None:
        """Accept a message or refuse it: signature, device, number, time, in this order."""
        if not incoming.payload:
            return  # a retained one was cleared
        from edgepose.bundles.manifest import refuse_foreign, refuse_replayed, refuse_untimely, verified
        from edgepose.bundles.public_keys import read_keys

        bundle: Bundle | None = None
        try:
            bundle = verified(incoming.payload, read_keys(Path(config.keys_file or "")))
            if self._is_known(store, bundle, stored=incoming.stored):
                return
            refuse_foreign(bundle.manifest, device_name(daemon.config), config.groups)
            under_way = [each.number - 1 for each in (self._wanted, self._staged()) if each is not None]
            refuse_replayed(bundle.manifest, max(store.pointer.highest, self._applying.number if self._applying else 0, *under_way))
            refuse_untimely(bundle.manifest, None if daemon.snapshot().clock_unset is not None else self._now())
        except EdgeposeError as error:
            self._refuse(store, bundle, str(error), final=False)
            return
        self._configured.record("received", bundle.number, _fields(bundle))
        _log.info("bundle %d is received", bundle.number)
        if self._staging is not None and bundle.number >= self._staging.bundle.number:
            self._staging.cancel()
        self._wanted = bundle
        self._enter("received", bundle)

    def _staged(self) -> "Bundle | None":
        return None if self._staging is None else self._staging.bundle

    def _is_known(self, store: "BundleStore", bundle: "Bundle", *, stored: bool) -> bool:
        """Return whether a message says nothing new: the broker repeats what it retains with each connection, older bundles too."""
        under_way = [each.digest for each in (self._wanted, self._applying, self._staged()) if each is not None]
        pointer = store.pointer
        if bundle.digest in under_way or (bundle.number == pointer.current and bundle.digest == store.digest(bundle.number)):
            return True
        settled = pointer.attempt is not None and pointer.attempt.digest == bundle.digest
        return stored and (settled or bundle.number <= pointer.highest)

    def _end_staging(self, daemon: Daemon, store: "BundleStore", staging: "Staging", now_s: float) -> None:
        """Let the daemon prepare what is on the disk now, or refuse it."""
        bundle = staging.bundle
        if staging.failure is not None:
            store.discard(bundle.number)
            if self._wanted is None or staging.final:
                self._refuse(store, bundle, staging.failure, final=staging.final)
            return
        self._enter("checking", bundle)
        self._applying = bundle
        cameras = [name for name, camera in daemon.snapshot().pipeline.cameras.items() if camera.state.state == "streaming"]

        def done(result: CommandResult) -> None:
            self._applying = None
            if result.reason is not None and store.pointer.current == bundle.number:  # half of it is in use
                self._configured.roll_back(result.reason)
                self._state, self._reason = ("rolled_back", bundle.number, bundle.key), result.reason
                daemon.fail(_needs_start(result.reason))
                return
            if result.reason is not None:
                self._refuse(store, bundle, result.reason, final=True)
                store.discard(bundle.number)
                return
            self._configured.record("tried", bundle.number, _fields(bundle))
            _log.info("bundle %d is on trial", bundle.number)
            self._enter("trying", bundle)
            from edgepose.bundles.trial import Progress, Trial

            self._trial = Trial(Progress.of(daemon.snapshot()), cameras, time.monotonic() + daemon.config.bundles.trial_s)

        number = bundle.number
        daemon.exchange(
            ReloadRequest(done, lambda: self._complete(self._configured.with_bundle(number)), lambda: store.activate(number, cameras))
        )

    def _look(self, daemon: Daemon, store: "BundleStore", config: BundlesConfig, trial: "Trial", now_s: float) -> None:
        """End the trial where it has succeeded or failed."""
        from edgepose.bundles.trial import Progress

        missing = trial.missing(Progress.of(daemon.snapshot(now_s)))
        number = store.pointer.current
        if not missing:
            store.confirm()
            self._trial = None
            self._configured.record("active", number, {})
            _log.info("bundle %s works and stays in use", number)
            self._state, self._reason = ("active", number, self._key_of(number)), None
        elif trial.is_over(now_s):
            reason = f"within {config.trial_s:g} s {'; '.join(missing)}"
            self._configured.roll_back(reason)
            self._trial = None
            self._state, self._reason = ("rolled_back", number, self._key_of(number)), reason
            self._return(daemon)

    def _key_of(self, number: int | None) -> str | None:
        """Return the key of a bundle where the state is still about that one."""
        return self._state[2] if self._state[1] == number else None

    def _return(self, daemon: Daemon) -> None:
        """Let the daemon run what it ran before; where that fails, it ends, and its next start does."""

        def done(result: CommandResult) -> None:
            self._returning = False
            if result.reason is not None:
                daemon.fail(_needs_start(result.reason))

        self._returning = True
        daemon.exchange(ReloadRequest(done, lambda: self._complete(self._configured.load())))

    def _refuse(self, store: "BundleStore", bundle: "Bundle | None", reason: str, *, final: bool) -> None:
        number, key, digest = (None, None, None) if bundle is None else (bundle.number, bundle.key, bundle.digest)
        _log.warning("%s is refused: %s", "a bundle" if bundle is None else f"bundle {number}", reason)
        self._configured.record("refused", number, {} if bundle is None else _fields(bundle), reason)
        self._state, self._reason = ("refused", number, key), reason
        if final:  # it would come again with each start
            from edgepose.bundles.store import Attempt

            store.note(Attempt(state="refused", number=number, digest=digest, key=key, reason=reason))

    def _enter(self, state: State, bundle: "Bundle") -> None:
        self._state, self._reason = (state, bundle.number, bundle.key), None

    def _tell(self, daemon: Daemon, store: "BundleStore") -> None:
        """Publish the state where it has changed."""
        state, number, key = self._state
        percent = self._staging.percent if self._staging is not None and state == "fetching" else None
        reason = self._staging.trouble if self._staging is not None and state == "fetching" else self._reason
        current = store.pointer.current
        message = BundleMessage(
            state=state,
            number=UNSET if number is None else number,
            percent=UNSET if percent is None else percent,
            reason=UNSET if reason is None else reason,
            active=UNSET if current is None else current,
            key=UNSET if key is None else key,
            at="" if self._told is None else self._told.at,
        )
        if message != self._told:
            self._told = replace(message, at=timestamp(time.time_ns()))
            daemon.tell_bundle(self._told)


def _needs_start(reason: str) -> RolledBackError:
    return RolledBackError(f"a bundle was rolled back, and what ran before needs another start: {reason}")


def _fields(bundle: "Bundle") -> dict[str, object]:
    return {"key": bundle.key, "sha256": bundle.digest}
