"""The way of an accepted bundle to the disk, in a thread of its own: fetched, checked, complete."""

import shutil
import threading

from edgepose.bundles.fetch import Fetching, FetchSettings, refuse_urls
from edgepose.bundles.manifest import Bundle
from edgepose.bundles.pins import refuse_pinned
from edgepose.bundles.store import BundleStore
from edgepose.config.schema import BundlesConfig
from edgepose.errors import ConfigError, EdgeposeError, OutputError, UnavailableError

_LEFT_BYTES = 32_000_000  # for all else that is kept on that disk


class Staging(threading.Thread):
    """A bundle on its way to the disk. `start` it; when it no longer is alive, it is there or has failed.

    Attributes:
        bundle: that is wanted.
        failure: why it is refused, one sentence; None where it is complete.
        final: whether the same bundle would be refused again.
    """

    def __init__(self, bundle: Bundle, store: BundleStore, config: BundlesConfig) -> None:
        super().__init__(name="bundle", daemon=True)
        self.bundle = bundle
        self.failure: str | None = None
        self.final = True
        self._store = store
        self._config = config
        self._fetching: Fetching | None = None
        self._cancelled = False
        self._size = sum(file.size for file in bundle.manifest.files)

    @property
    def percent(self) -> int | None:
        """How much is fetched; None where nothing is."""
        return None if self._fetching is None else min(100, self._fetching.fetched_bytes * 100 // max(1, self._size))

    @property
    def trouble(self) -> str | None:
        """Why the last attempt to fetch a file failed; None where none did."""
        return None if self._fetching is None else self._fetching.trouble

    def cancel(self) -> None:
        """Give up, since a newer bundle has arrived."""
        self._cancelled = True
        if self._fetching is not None:
            self._fetching.cancel()

    def run(self) -> None:
        """Do all that takes long."""
        try:
            self._stage()
        except UnavailableError as error:
            self.failure, self.final = str(error), False
        except OutputError as error:  # a full disk may have space later
            self.failure, self.final = str(error), False
        except EdgeposeError as error:
            self.failure = "; ".join(str(error).splitlines())
        except Exception as error:  # an internal fault must not go unnoticed
            self.failure = f"unexpected {type(error).__name__}: {error}"

    def _stage(self) -> None:
        manifest, config = self.bundle.manifest, self._config
        refuse_pinned(manifest.configuration, config.pinned)
        refuse_urls(manifest.files)
        if self._size > config.size_limit_mb * 1_000_000:
            limit = f"expected at most bundles.size_limit_mb, which is {config.size_limit_mb}"
            raise ConfigError(f"the files of bundle {manifest.number} have {self._size / 1e6:.1f} MB; {limit}")
        folder = self._store.stage(self.bundle)
        free = shutil.disk_usage(folder).free
        if free < self._size + _LEFT_BYTES:
            needed = f"bundle {manifest.number} needs {self._size / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free in {folder.parent}"
            raise OutputError(f"{needed}; expected {_LEFT_BYTES / 1e6:.0f} MB to be left")
        if manifest.files:
            settings = FetchSettings.of(config.ca_file, config.media_folder, config.fetch_within_s)
            self._fetching = Fetching(settings)
            if self._cancelled:
                self._fetching.cancel()
        for file in manifest.files:
            assert self._fetching is not None
            if not any(self._fetching.copy(file, known, folder / file.name) for known in self._store.find(file.name)):
                self._fetching.fetch(file, folder / file.name)
        self._store.keep(manifest.number)
