"""Files that are on the disk, and not only on their way to it, when a function returns; each raises OSError where that fails."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def open_new(path: Path) -> BinaryIO:
    """Open a file for writing in place of any that is there."""
    with suppress(FileNotFoundError):
        path.unlink()
    return path.open("xb")


def write_durably(path: Path, data: bytes) -> None:
    """Write a file, in place of any that is there."""
    with open_new(path) as file:
        file.write(data)
        sync(file)


def sync(file: BinaryIO) -> None:
    """Bring what was written to an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
