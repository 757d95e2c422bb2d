"""The configuration that `edgepose run` uses: that of the device, and over it that of the bundle in use."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepose.config.load import load
from edgepose.config.schema import Config
from edgepose.encryption.files import state_files
from edgepose.errors import ConfigError, EdgeposeError, ModelError, UnavailableError

if TYPE_CHECKING:  # a device without bundles loads nothing of them
    from edgepose.bundles.store import BundleStore
    from edgepose.daemon.audit import Audit
    from edgepose.storage.span import Span

_log = logging.getLogger(__name__)

AUDIT = "audit.jsonl"


class BundledConfiguration:
    """The configuration of a device that may take bundles.

    Args:
        config_file, settings: of the command line, as `edgepose.config.load.load` takes them.

    Attributes:
        store: None until a configuration with bundles was loaded.
    """

    def __init__(self, config_file: Path | None, settings: Sequence[str]) -> None:
        self._config_file = config_file
        self._settings = settings
        self.store: BundleStore | None = None
        self._audit: Audit | None = None
        # At the start, before log and files are set up: number, the one in use instead, reason. None afterwards.
        self._rolled_back: list[tuple[int | None, int | None, str]] | None = []

    def local(self) -> Config:
        """Return the device's own configuration; ConfigError where it cannot be used."""
        return load(self._config_file, self._settings)

    def start(self) -> Config:
        """Return the configuration to start with; what cannot be used is rolled back first.

        Raises:
            ConfigError: the device's own configuration cannot be used.
            UnavailableError: the library for signatures is missing, or another daemon uses the bundles.
            OutputError: the folder of bundles cannot be used.
        """
        local = self.local()
        if not local.bundles.enabled:
            return local
        from edgepose.bundles.public_keys import read_keys
        from edgepose.bundles.store import STARTS

        store = self._open(local)
        keys = read_keys(Path(local.bundles.keys_file or ""))
        store.prune()
        trial = store.pointer.trial
        if trial is not None and trial.starts >= STARTS:
            self.roll_back(f"it was started {trial.starts} times without a success")
        store.count_start()
        while (number := store.pointer.current) is not None:
            try:
                store.check(number, keys)
            except ConfigError as error:
                self.roll_back(str(error))
                continue
            try:
                config = self.with_bundle(number)
            except ConfigError as error:  # also of one that has run: another version of edgepose may not know a key
                self.roll_back("; ".join(str(error).splitlines()))
                continue
            return config
        return local

    def record_start(self) -> None:
        """Log and record what `start` did; the configuration that it returned says how to log, and how files are stored."""
        rolled_back, self._rolled_back = self._rolled_back, None
        for number, now, reason in rolled_back or ():
            self._record_return(number, now, reason)
        if self.store is not None and (number := self.store.pointer.current) is not None:
            _log.info("bundle %d is in use%s", number, ", on trial" if self.store.pointer.trial is not None else "")

    def load(self) -> Config:
        """Return the configuration of this moment; ConfigError where it cannot be used."""
        local = self.local()
        if not local.bundles.enabled:
            return local
        from edgepose.bundles.public_keys import read_keys

        store = self._open(local)
        if (number := store.pointer.current) is None:
            return local
        store.check(number, read_keys(Path(local.bundles.keys_file or "")))
        return self.with_bundle(number)

    def with_bundle(self, number: int) -> Config:
        """Return the configuration with a bundle of the disk; ConfigError where it cannot be used."""
        from edgepose.bundles.pins import refuse_pinned

        assert self.store is not None
        local = self.local()
        path = self.store.configuration(number)
        try:
            refuse_pinned(path.read_text(encoding="utf-8"), local.bundles.pinned)
        except OSError as error:
            raise ConfigError(f"bundle {number} cannot be read: {path}: {error.strerror}; expected it complete") from error
        return load(self._config_file, self._settings, over=path)

    def roll_back(self, reason: str) -> None:
        """Use the bundle before, or none, from the next `load` on, and say why."""
        assert self.store is not None
        number = self.store.pointer.current
        self.store.roll_back(reason)
        now = self.store.pointer.current
        if self._rolled_back is None:
            self._record_return(number, now, reason)
        else:
            self._rolled_back.append((number, now, reason))

    def _record_return(self, number: int | None, now: int | None, reason: str) -> None:
        _log.error("bundle %s is rolled back to %s: %s", number, "no bundle" if now is None else f"bundle {now}", reason)
        self.record("rolled back", number, {}, reason)

    def recover(self, error: EdgeposeError) -> bool:
        """Roll back the bundle that ended the daemon: one on trial, or one whose model is not accepted; return whether there was one."""
        pointer = None if self.store is None else self.store.pointer
        if pointer is None or pointer.current is None or isinstance(error, UnavailableError):
            return False
        if pointer.trial is None and not isinstance(error, ModelError):
            return False
        self.roll_back("; ".join(str(error).splitlines()))
        return True

    def record(self, outcome: str, number: int | None, fields: dict[str, object], reason: str = "") -> None:
        """Record what became of a bundle."""
        name = "unknown" if number is None else str(number)
        self._opened_audit().note_line(name, {"outcome": outcome, **fields}, "refused" if reason else "ok", reason, outcome)

    def turn(self, now_s: float) -> None:
        """Write the lines of the record that are due."""
        if self._audit is not None:
            self._audit.turn(now_s)

    def forget(self, span: "Span") -> None:
        """Delete the lines of the record of a span; a disk that fails is logged."""
        if self.store is None:
            return
        try:
            if state_files().place(self.store.folder / AUDIT).exists():
                self._opened_audit().forget(span)
        except OSError as error:
            _log.error("the record of bundles could not be shortened: %s", error.strerror)

    def close(self) -> None:
        """Complete the record."""
        if self._audit is not None:
            self._audit.close()

    def _opened_audit(self) -> "Audit":
        if self._audit is None:
            from edgepose.daemon.audit import Audit

            assert self.store is not None
            self._audit = Audit(self.store.folder / AUDIT, "bundles.folder", "bundle", logging.DEBUG)
        return self._audit

    def _open(self, local: Config) -> "BundleStore":
        """Return the store; one of another folder takes effect at the next start."""
        if self.store is None:
            from edgepose.bundles.store import BundleStore

            store = BundleStore(Path(local.bundles.folder or ""))
            store.hold()
            self.store = store
        return self.store
