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
    if state_files().place(path / "file") == path / "file":
        return path
    # The same for each run, so that what a run that was cut off left is removed; the folder in it can be made anew by its user.
    mine = _MEMORY / f"edgepose-{os.geteuid()}-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:16]}"
    try:
        shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(f"{mine} cannot be created: {error.strerror}; expected memory for the files of {path}") from error
    return mine / path.name
