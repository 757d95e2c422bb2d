"""A place for files that libraries and other processes must read as they are: on the disk while files are clear, else in memory."""

import hashlib
import os
import shutil
from pathlib import Path

from edgepose.encryption.files import state_files
from edgepose.errors import OutputError

_MEMORY = Path("/dev/shm")


def scratch_folder(path: Path) -> Path:
    """Return a folder for such files: the path itself, or an empty folder in memory that this user alone can enter.

    Raises:
        OutputError: it cannot be created.
    """
    if _is_clear(path):
        return path
    mine = _in_memory(path)  # the folder in it can be made anew by its user
    try:
        shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(f"{mine} cannot be created: {error.strerror}; expected memory for the files of {path}") from error
    return mine / path.name


def remove_scratch(path: Path) -> None:
    """Remove what a process that was cut off left in the folder of `scratch_folder`."""
    shutil.rmtree(path if _is_clear(path) else _in_memory(path), ignore_errors=True)


def _is_clear(path: Path) -> bool:
    return state_files().place(path / "file") == path / "file"


def _in_memory(path: Path) -> Path:
    """Return the folder in memory, the same for each run, so that what one left is found."""
    return _MEMORY / f"edgepose-{os.geteuid()}-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}"
