"""The bundles on the disk, and the pointer that says which one is in use: one small file, replaced atomically.

::

    pointer.json    numbers of the bundle in use and of the one before, whether it is on trial, what became of the newest one
    7/              a bundle: bundle.json (the signed message), config.yaml, and its files
    staging/        one that is being fetched
    audit.jsonl     the record

A bundle is complete on the disk, its folder included, before the pointer names it; so after a power cut the pointer names a complete
bundle, the old one or the new one.
"""

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import msgspec
from msgspec.structs import replace

from edgepose.bundles.durable import sync_folder, write_durably
from edgepose.bundles.manifest import CONFIGURATION, MESSAGE, Bundle, verified
from edgepose.errors import ConfigError, OutputError, UnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

STARTS = 3
"""Starts of a bundle on trial, the first one included: at the next one it is rolled back."""

POINTER = "pointer.json"
_STAGING = "staging"
_CHUNK_BYTES = 1024 * 1024


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A trial that is under way: starts so far, and cameras that delivered frames before it."""

    starts: int
    cameras: list[str]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the newest bundle. One that was refused only because its files did not arrive is no longer remembered at a start."""

    state: Literal["refused", "rolled_back"]
    number: int | None
    digest: str | None
    key: str | None
    reason: str


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What is in use.

    Attributes:
        current: number of the bundle in use; None where the device's own configuration is used alone.
        previous: number of the one before it, where `roll_back` returns to.
        trial: of the current one; None once it is confirmed.
        highest: greatest number that was ever in use: only greater ones are accepted.
        attempt: what became of the newest one; None where it is the one in use.
    """

    schema: Literal[1] = 1
    current: int | None = None
    previous: int | None = None
    trial: TrialRecord | None = None
    highest: int = 0
    attempt: Attempt | None = None


class BundleStore:
    """A folder of bundles; safe for several threads of one process.

    Args:
        folder: is created where it does not exist.

    Attributes:
        pointer: as it is on the disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._held: IO[bytes] | None = None
        self.pointer = self._read()

    def hold(self) -> None:
        """Take the folder for this process; UnavailableError where another one has it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = (self.folder / "lock").open("ab")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.close()
            raise UnavailableError(f"another edgepose uses the bundles in {self.folder}; expected a folder of its own") from error
        self._held = held

    def release(self) -> None:
        """Leave the folder to other processes."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def place(self, number: int) -> Path:
        """Return the folder of a bundle."""
        return self.folder / str(number)

    def configuration(self, number: int) -> Path:
        """Return the configuration file of a bundle."""
        return self.place(number) / CONFIGURATION

    def stage(self, bundle: Bundle) -> Path:
        """Return a folder for the files of a bundle, which has all but those; OutputError where it cannot be written."""
        staging = self.folder / _STAGING
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            write_durably(staging / MESSAGE, bundle.message)
            write_durably(staging / CONFIGURATION, bundle.manifest.configuration.encode())
        except OSError as error:
            raise self._unwritable(error) from error
        return staging

    def find(self, name: str) -> list[Path]:
        """Return the files with a name of the bundle in use and of the one before."""
        numbers = (self.pointer.current, self.pointer.previous)
        return [path for number in numbers if number is not None and (path := self.place(number) / name).is_file()]

    def keep(self, number: int) -> None:
        """Make the staged files the bundle with a number, complete on the disk; OutputError where that fails."""
        with self._lock:
            try:
                sync_folder(self.folder / _STAGING)
                shutil.rmtree(self.place(number), ignore_errors=True)
                os.rename(self.folder / _STAGING, self.place(number))
                sync_folder(self.folder)
            except OSError as error:
                raise self._unwritable(error) from error

    def discard(self, number: int) -> None:
        """Delete what is staged, and a bundle that is not used."""
        with self._lock:
            shutil.rmtree(self.folder / _STAGING, ignore_errors=True)
            if number not in (self.pointer.current, self.pointer.previous):
                shutil.rmtree(self.place(number), ignore_errors=True)

    def activate(self, number: int, cameras: Sequence[str]) -> None:
        """Use a bundle from now on, on trial; an error leaves the one before in use.

        Raises:
            ConfigError: it is not newer than all before.
            OutputError: that cannot be written.
        """
        with self._lock:
            now = self.pointer
            if number <= now.highest:
                raise ConfigError(f"bundle {number} is not newer than {now.highest}, which was tried here; expected a greater number")
            trial = TrialRecord(starts=1, cameras=list(cameras))
            self._write(Pointer(current=number, previous=now.current, trial=trial, highest=number))

    def count_start(self) -> None:
        """Count a start of the bundle on trial."""
        with self._lock:
            if (trial := self.pointer.trial) is not None:
                self._write(replace(self.pointer, trial=replace(trial, starts=trial.starts + 1)))

    def confirm(self) -> None:
        """End the trial: the bundle stays in use."""
        with self._lock:
            self._write(replace(self.pointer, trial=None))
        self.prune()

    def roll_back(self, reason: str) -> None:
        """Use the bundle before, or none, from now on.

        Args:
            reason: one sentence.
        """
        with self._lock:
            now = self.pointer
            attempt = Attempt(state="rolled_back", number=now.current, digest=None, key=None, reason=reason)
            if now.current is not None:
                attempt = replace(attempt, digest=self.digest(now.current))
            self._write(replace(now, current=now.previous, previous=None, trial=None, attempt=attempt))

    def note(self, attempt: Attempt | None) -> None:
        """Remember what became of the newest bundle."""
        with self._lock:
            if attempt != self.pointer.attempt:
                self._write(replace(self.pointer, attempt=attempt))

    def prune(self) -> None:
        """Delete what the pointer does not name."""
        with self._lock:
            keep = {str(number) for number in (self.pointer.current, self.pointer.previous) if number is not None}
            with suppress(OSError):
                for path in self.folder.iterdir():
                    if path.is_dir() and path.name not in keep and (path.name.isdecimal() or path.name == _STAGING):
                        shutil.rmtree(path, ignore_errors=True)

    def check(self, number: int, keys: "dict[str, Ed25519PublicKey]") -> Bundle:
        """Return a bundle of the disk; ConfigError where it is damaged, or its key is no longer accepted."""
        place = self.place(number)
        try:
            bundle = verified((place / MESSAGE).read_bytes(), keys)
            texts = {CONFIGURATION: hashlib.sha256(bundle.manifest.configuration.encode()).hexdigest()}
            for name, expected in (texts | {file.name: file.sha256 for file in bundle.manifest.files}).items():
                if _sha256(place / name) != expected:
                    raise ConfigError(f"{place / name} is damaged; expected what the bundle says")
        except OSError as error:
            raise ConfigError(f"bundle {number} cannot be read: {error.filename}: {error.strerror}; expected it complete") from error
        if bundle.number != number:
            raise ConfigError(f"{place} holds bundle {bundle.number}; expected bundle {number}")
        return bundle

    def digest(self, number: int) -> str | None:
        """Return the digest of a bundle's manifest, unverified: it only recognizes a message."""
        try:
            message = msgspec.json.decode((self.place(number) / MESSAGE).read_bytes())
            return hashlib.sha256(message["manifest"].encode()).hexdigest()
        except (OSError, msgspec.DecodeError, LookupError, TypeError, AttributeError):
            return None

    def _read(self) -> Pointer:
        try:
            return msgspec.json.decode((self.folder / POINTER).read_bytes(), type=Pointer)
        except FileNotFoundError:
            return Pointer()
        except OSError as error:
            raise OutputError(f"bundles.folder: {self.folder} cannot be read: {error.strerror}; expected a folder of this user") from error
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Not what this program wrote. The newest bundle on the disk may come again; nothing older.
            numbers = [int(path.name) for path in self.folder.iterdir() if path.name.isdecimal()]
            reason = f"{POINTER} was damaged, so the device's own configuration is used; expected the bundle to be published again"
            attempt = Attempt(state="rolled_back", number=None, digest=None, key=None, reason=reason)
            return Pointer(highest=max(max(numbers, default=1) - 1, 0), attempt=attempt)

    def _write(self, pointer: Pointer) -> None:
        try:
            write_durably(self.folder / f"{POINTER}.new", msgspec.json.encode(pointer))
            os.replace(self.folder / f"{POINTER}.new", self.folder / POINTER)
            sync_folder(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        self.pointer = pointer

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"bundles.folder: {self.folder} cannot be written: {error.strerror}; expected a folder with space for bundles")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
