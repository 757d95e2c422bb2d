"""Engines that were built, kept on disk: nothing is used that was not written whole, by us, for exactly this machine.

An engine is two files: `NAME.engine`, and `NAME.json` with everything that it was built for, its size and hash, and a hash over itself.
Both are written beside their place, synced and renamed, the second one last. A process that is killed half-way leaves an engine without a
matching description, which is not an engine.

Folder and files must belong to root or to the user of this process, and nobody else may write them: an engine is code. They are opened
once, without following links, and what is hashed is what is used.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from edgepose.errors import OutputError

_log = logging.getLogger(__name__)

_MOST_BYTES = 2 << 30
_KEPT = 16  # engines of one machine: models, refiners, sizes
_WAIT_S = 0.2
_STATE_BYTES = 512
_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


class EngineKey(msgspec.Struct, frozen=True):
    """Everything that an engine depends on.

    Attributes:
        name: of the model, for people.
        model: SHA-256 of the model file.
        library: name and version of the library, with its build.
        device: name of the device.
        compute_capability: of the device.
        driver: version of the driver.
        profile: shapes of the input.
        dla: whether it runs on a DLA core.
    """

    name: str
    model: str
    library: str
    device: str
    compute_capability: str
    driver: str
    profile: str
    dla: bool = False

    @property
    def stem(self) -> str:
        """Name of the files without their ending."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()
        return f"{_NAME.sub('-', self.name)[:40]}-{digest[:24]}"

    def of_machine(self, other: "EngineKey") -> bool:
        """Return whether another engine is for the same library and device."""
        return (self.library, self.device, self.compute_capability, self.driver) == (
            other.library,
            other.device,
            other.compute_capability,
            other.driver,
        )


class _Description(msgspec.Struct, frozen=True):
    """What `NAME.json` says of `NAME.engine`."""

    key: EngineKey
    size: int
    sha256: str
    verified: str


class BuildState(msgspec.Struct, frozen=True):
    """What a process that builds says to those that wait for it."""

    percent: float = 0.0
    phase: str = ""


class _UnfitFile(Exception):  # noqa: N818 (a finding, not an error: the engine is built again)
    """Why a file is not used, in a few words."""


def default_folder() -> Path:
    """Return the folder of engines where none is configured."""
    if os.geteuid() == 0:
        return Path("/var/lib/edgepose/engines")
    return Path.home() / ".cache" / "edgepose" / "engines"


class EngineCache:
    """The engines in one folder.

    Attributes:
        folder: its path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: EngineKey) -> bytes | None:
        """Return an engine; None where there is none that may be used, and the log says why."""
        try:
            with self._opened() as folder:
                return _read_engine(folder, key)
        except FileNotFoundError:
            return None
        except (_UnfitFile, OSError) as error:
            _log.warning("the engine of %s in %s is not used: %s", key.name, self.folder, _words(error))
            return None

    def store(self, key: EngineKey, plan: bytes, verified: str) -> None:
        """Write an engine; call it under `locked`.

        Args:
            verified: what was checked, in words.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            with self._opened(make=True) as folder:
                description = _Description(key, len(plan), hashlib.sha256(plan).hexdigest(), verified)
                _write(folder, f"{key.stem}.engine", plan)
                _write(folder, f"{key.stem}.json", _sealed(msgspec.json.encode(description)))
        except (_UnfitFile, OSError) as error:
            raise OutputError(f"the engine cannot be kept in {self.folder}: {_words(error)}; {_EXPECTED}") from error

    def forget(self, key: EngineKey) -> None:
        """Remove an engine, its description first."""
        with contextlib.suppress(OSError, _UnfitFile), self._opened() as folder:
            _remove(folder, key.stem)

    def prune(self, key: EngineKey) -> list[str]:
        """Remove what cannot be used again: engines for another library, driver or device, broken ones, and the oldest of many.

        Args:
            key: an engine of this machine, which stays.

        Returns:
            Names of the removed engines.
        """
        removed = []
        try:
            with self._opened() as folder:
                kept: list[tuple[float, str]] = []
                stems = {name.removesuffix(end) for name in os.listdir(folder) for end in (".engine", ".json") if name.endswith(end)}
                for stem in sorted(stems - {key.stem}):
                    try:
                        other = _read_description(folder, stem)
                        fits = other.key.stem == stem and other.key.of_machine(key)
                        used_s = os.stat(f"{stem}.engine", dir_fd=folder, follow_symlinks=False).st_mtime
                    except (_UnfitFile, OSError):
                        fits, used_s = False, 0.0
                    if fits:
                        kept.append((used_s, stem))
                    elif _lock_is_free(folder, stem):
                        removed.append(stem)
                removed += [stem for _, stem in sorted(kept)[: max(0, len(kept) + 1 - _KEPT)] if _lock_is_free(folder, stem)]
                for stem in removed:
                    _remove(folder, stem)
        except (OSError, _UnfitFile) as error:
            _log.debug("old engines in %s stay: %s", self.folder, _words(error))
        return removed

    @contextmanager
    def locked(
        self, key: EngineKey, waiting: Callable[[BuildState], None] = lambda state: None, *, within_s: float = float("inf")
    ) -> Iterator["BuildNotes"]:
        """Hold the right to build an engine; wait while another process does. The right ends with the process that holds it.

        Args:
            waiting: called about five times a second with what the other process says.
            within_s: longest wait.

        Raises:
            OutputError: the folder cannot be used, or the other process takes longer.
        """
        ends_s = time.monotonic() + within_s
        try:
            with self._opened(make=True) as folder:
                lock = os.open(f"{key.stem}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except (_UnfitFile, OSError) as error:
            raise OutputError(f"no engine can be built in {self.folder}: {_words(error)}; {_EXPECTED}") from error
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > ends_s:
                        raise OutputError(f"another process has built the engine of {key.name} for {within_s:.0f} s; giving up") from None
                    waiting(_read_state(lock))
                    time.sleep(_WAIT_S)
            try:
                yield BuildNotes(lock)
            finally:
                with contextlib.suppress(OSError):
                    os.ftruncate(lock, 0)
        finally:
            os.close(lock)

    def timings(self, key: EngineKey) -> "EngineKey":
        """Return the key of the timing cache that goes with an engine; it is kept like one."""
        return msgspec.structs.replace(key, name="timings", model="", profile="", dla=False)

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """Open the folder and check whose it is."""
        if make:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _check_owner(os.fstat(folder), "the folder")
            yield folder
        finally:
            os.close(folder)


class BuildNotes:
    """What the process that builds writes for those that wait."""

    def __init__(self, lock: int) -> None:
        self._lock = lock

    def write(self, state: BuildState) -> None:
        """Replace the note; a disk that fails does not fail the build."""
        with contextlib.suppress(OSError):
            os.pwrite(self._lock, msgspec.json.encode(state).ljust(_STATE_BYTES), 0)


_EXPECTED = "expected a folder that belongs to root or to this user and that nobody else may write, named by model.engines"


def _check_owner(found: os.stat_result, what: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise _UnfitFile(f"{what} belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnfitFile(f"others may write {what} (mode {stat.S_IMODE(found.st_mode):o})")


def _read(folder: int, name: str) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise _UnfitFile(f"{name} is no file of a sensible size")
        _check_owner(found, name)
        return file.read()


def _read_description(folder: int, stem: str) -> _Description:
    line, _, body = _read(folder, f"{stem}.json").partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != line:
        raise _UnfitFile("its description is damaged")
    try:
        return msgspec.json.decode(body, type=_Description)
    except msgspec.MsgspecError as error:
        raise _UnfitFile(f"its description is of another version of edgepose ({error})") from error


def _read_engine(folder: int, key: EngineKey) -> bytes:
    description = _read_description(folder, key.stem)
    if description.key != key:
        raise _UnfitFile("it was built for something else")
    plan = _read(folder, f"{key.stem}.engine")
    if len(plan) != description.size:
        raise _UnfitFile(f"it has {len(plan)} bytes; expected {description.size}")
    if hashlib.sha256(plan).hexdigest() != description.sha256:
        raise _UnfitFile("its hash differs from the one that was written with it")
    return plan


def _sealed(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _write(folder: int, name: str, content: bytes) -> None:
    """Write a file so that its name stands for the whole of it or for what it stood for before."""
    part = f"{name}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.replace(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _remove(folder: int, stem: str) -> None:
    for end in (".json", ".engine", ".json.part", ".engine.part"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{stem}{end}", dir_fd=folder)


def _lock_is_free(folder: int, stem: str) -> bool:
    try:
        lock = os.open(f"{stem}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _read_state(lock: int) -> BuildState:
    try:
        return msgspec.json.decode(os.pread(lock, _STATE_BYTES, 0), type=BuildState)
    except (OSError, msgspec.MsgspecError):  # not written yet
        return BuildState()


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
