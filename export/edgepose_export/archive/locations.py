"""Where an archive lies: files of this machine, and of every store that fsspec knows (s3://, gs://, abfs://, sftp://, …)."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepose.capture.source import NETWORK_SCHEMES
from edgepose.errors import OutputError, SourceError, UnavailableError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_remote(place: str) -> bool:
    """Return whether a place is on an object store, rather than a path or an address that FFmpeg reads."""
    found = _SCHEME.match(place)
    return found is not None and found[1].lower() not in (*NETWORK_SCHEMES, "file")


def file_system(place: str) -> tuple[Any, str]:
    """Return the file system of a remote place, and the path in it.

    Raises:
        UnavailableError: a library is not installed.
        SourceError: nobody knows such a place.
    """
    try:
        import fsspec
    except ImportError as error:
        raise UnavailableError(
            f"{place} is read through fsspec, which is not installed; expected pip install 'edgepose-export[archive]'"
        ) from error
    try:
        system, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{place} cannot be read: {error}; expected a path, or an address that fsspec knows", "unsupported") from error
    return system, str(path)


@contextmanager
def local_copy(source: str) -> Iterator[Path]:
    """Give a file of this machine with the content of a source; a copy of a remote one is removed at the end.

    Raises:
        SourceError: it cannot be read.
    """
    if not is_remote(source):
        yield Path(source)
        return
    system, path = file_system(source)
    with tempfile.TemporaryDirectory(prefix="edgepose-archive-") as folder:
        copy = Path(folder) / (Path(path).name or "video")
        try:
            system.get_file(path, str(copy))
        except Exception as error:  # each store has errors of its own
            raise SourceError(f"{source} cannot be read: {error}; expected a file that this machine may read", "failed") from error
        yield copy


class ResultFolder:
    """The folder of results, here or on an object store. A file in it is whole, or not there.

    Args:
        place: path, or address that fsspec knows.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/")
        self._remote = file_system(place) if is_remote(place) else None

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None where it is not there; OutputError where it cannot be read."""
        try:
            if self._remote is None:
                return (Path(self.place) / name).read_bytes()
            system, path = self._remote
            return bytes(system.cat_file(f"{path}/{name}"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{self.place}/{name} cannot be read: {error}; expected a folder of results") from error

    def write(self, name: str, source: Path) -> None:
        """Put a file there, in the place of an earlier one; OutputError where that fails."""
        try:
            if self._remote is not None:
                system, path = self._remote
                system.put_file(str(source), f"{path}/{name}")  # object stores show an object when it is whole
                return
            target = Path(self.place) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=target.parent)
            os.close(descriptor)
            try:
                shutil.copyfile(source, temporary)
                with open(temporary, "rb") as file:
                    os.fsync(file.fileno())
                Path(temporary).replace(target)
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self.place}/{name} cannot be written: {error}; expected a folder with room") from error

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of it, in order; none where it is not there."""
        try:
            if self._remote is None:
                return sorted(path.name for path in (Path(self.place) / folder).iterdir() if path.suffix != ".tmp")
            system, path = self._remote
            return sorted(str(name).rsplit("/", 1)[-1] for name in system.ls(f"{path}/{folder}", detail=False))
        except OSError:
            return []

    def remove(self, folder: str) -> None:
        """Remove a folder of it."""
        if self._remote is None:
            shutil.rmtree(Path(self.place) / folder, ignore_errors=True)
            return
        system, path = self._remote
        if system.exists(f"{path}/{folder}"):
            system.rm(f"{path}/{folder}", recursive=True)
