"""The files of the program's state: every room opens, reads and replaces them through here, and none knows whether they are encrypted.

`state_files()` is one for the process, chosen at its start: clear files, exactly as the rooms write them, or encrypted ones.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

DAMAGES = ("damaged", "moved", "cut", "foreign", "key")
"""Causes of damage: a block does not verify; it verifies in another place of its file; blocks are missing at the end; a key block, or the
whole file, does not verify under the master key; one of two copies of a key or length block does not verify."""

_CHUNK_BYTES = 1 << 20


class StateFile(Protocol):
    """An open file. Methods raise OSError where the disk fails; not thread-safe.

    Attributes:
        descriptor: of the file, for locks and its status; nothing else writes to it.
        damage: places that do not verify, by cause, counted by the last `read`.
    """

    descriptor: int
    damage: Counter[str]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        ...

    def read(self) -> bytes:
        """Return the whole content; a place that does not verify is replaced by zeros."""
        ...

    def head(self, limit_bytes: int) -> bytes:
        """Return the beginning of the content."""
        ...

    def tail(self, limit_bytes: int) -> bytes:
        """Return the end of the content."""
        ...

    def append(self, data: bytes | bytearray, *, sync: bool = False) -> None:
        """Append data, all or nothing.

        Args:
            data: to append.
            sync: whether to return only when it is on the disk.
        """
        ...

    def empty(self) -> None:
        """Remove the content."""
        ...

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        ...


class StateFiles(Protocol):
    """Files by the paths that the configuration and the rooms give them.

    Attributes:
        damage: places that did not verify since the start of the process, by cause.
    """

    damage: Counter[str]

    def place(self, path: Path) -> Path:
        """Return where a file or folder is on the disk: what the system's calls (rename, link, remove, status, …) take."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names of all files and folders in a folder, sorted; empty where there is none."""
        ...

    def open(self, path: Path, kind: str, *, mode: int = 0o600, truncate: bool = False, follow: bool = True) -> StateFile:
        """Open a file for reading and appending; it is created where it is missing.

        Args:
            path: of the file.
            kind: what the file holds, one short word; a file of another kind does not verify.
            mode: of a new file.
            truncate: whether its content is removed.
            follow: whether the path may be a symbolic link; not where it is emptied.
        """
        ...

    def load(self, path: Path, kind: str) -> bytes:
        """Return the content of a file, where it exists."""
        ...


class ClearFile:
    """A file as its room writes it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.damage: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return os.fstat(self.descriptor).st_size

    def read(self) -> bytes:
        """Return the whole content."""
        with open(self.descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def head(self, limit_bytes: int) -> bytes:
        """Return the beginning of the content."""
        return os.pread(self.descriptor, limit_bytes, 0)

    def tail(self, limit_bytes: int) -> bytes:
        """Return the end of the content."""
        return os.pread(self.descriptor, limit_bytes, max(0, self.size - limit_bytes))

    def append(self, data: bytes | bytearray, *, sync: bool = False) -> None:
        """Append data, all or nothing."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self.descriptor, memoryview(data)[written:])
            if sync:
                os.fdatasync(self.descriptor)
        except OSError:
            if written:
                with contextlib.suppress(OSError):  # a pipe has no length
                    os.ftruncate(self.descriptor, self.size - written)  # half a record would count as damage
            raise

    def empty(self) -> None:
        """Remove the content."""
        os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class ClearFiles:
    """Files as the rooms write them, under their own names."""

    def __init__(self) -> None:
        self.damage: Counter[str] = Counter()

    def place(self, path: Path) -> Path:
        """Return the path itself."""
        return path

    def names(self, folder: Path) -> list[str]:
        """Return the names of all files and folders in a folder, sorted; empty where there is none."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def open(self, path: Path, kind: str, *, mode: int = 0o600, truncate: bool = False, follow: bool = True) -> StateFile:
        """Open a file for reading and appending; it is created where it is missing."""
        return ClearFile(os.open(path, open_flags(truncate=truncate, follow=follow) | os.O_APPEND, mode))

    def load(self, path: Path, kind: str) -> bytes:
        """Return the content of a file, where it exists."""
        return path.read_bytes()


def open_flags(*, truncate: bool, follow: bool) -> int:
    """Return the flags with which a file is opened for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return flags | (os.O_TRUNC if truncate else 0) | (os.O_NOFOLLOW if truncate or not follow else 0)


_current: StateFiles = ClearFiles()


def state_files() -> StateFiles:
    """Return the files of this process."""
    return _current


def use_files(files: StateFiles) -> StateFiles:
    """Set the files of this process, at its start, and return those before."""
    global _current
    before, _current = _current, files
    return before


def write_whole(path: Path, data: bytes, kind: str, *, mode: int = 0o600, sync: bool = True, owner_of: Path | None = None) -> None:
    """Replace a file by one with other content, complete or not at all.

    Args:
        path: of the file.
        data: its content.
        kind: as in `StateFiles.open`.
        mode: of the file, within the process's own mask.
        sync: whether to return only when it is on the disk.
        owner_of: folder whose owner the file is given to, where this process may; root changes files of the service's user.

    Raises:
        OSError: the disk fails.
    """
    files = state_files()
    target, temporary = files.place(path), files.place(path.with_name(f"{path.name}.new"))
    try:
        file = files.open(path.with_name(f"{path.name}.new"), kind, mode=mode, truncate=True)
        try:
            if owner_of is not None:
                give(file.descriptor, owner_of)
            file.append(data)
            if sync:
                os.fsync(file.descriptor)
        finally:
            file.close()
        os.replace(temporary, target)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def give(descriptor: int, folder: Path) -> None:
    """Give a file to the owner of a folder, where this process may."""
    owner = folder.stat()
    if os.fstat(descriptor).st_uid != owner.st_uid:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def copy_content(source: Path, target: Path) -> None:
    """Copy a file on the disk as it is, encrypted or not; both paths are places."""
    with source.open("rb") as read, target.open("wb") as written:
        for chunk in _chunks(read.fileno()):
            written.write(chunk)
        written.flush()
        os.fsync(written.fileno())


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        yield chunk
