"""Pose messages in files: JSON Lines, with the same objects as on MQTT, and CSV, with one row per person.

Each frame is one unbuffered `write` system call. A reader that follows the file sees whole lines immediately, and a killed process leaves
no partial line. Nothing is synced to the disk, since that would wear out a memory card; a power cut loses the last seconds.
"""

import csv
import errno
import io
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta

from edgepose.encryption.files import ClearFile, StateFile, StateFiles, state_files
from edgepose.errors import OutputError
from edgepose.messages.structs import PosesMessage, encode
from edgepose.output.lines_limit import LinesLimit, older_file, time_of_line
from edgepose.person import KEYPOINT_NAMES

CSV_COLUMNS = (
    "camera",
    "sequence",
    "captured_at",
    "track",
    "score",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
    *(f"{name}_{part}" for name in KEYPOINT_NAMES for part in ("x", "y", "confidence")),
)
"""Columns of the CSV file. The values are those of the pose message; `track` is empty if the person is not tracked."""

SOURCE_COLUMN = "source"
"""Last column where frames come from several files: the path of the file."""

KIND = "output"
"""What `edgepose.encryption` calls a file of results."""

_HEADER_LIMIT_BYTES = 65_536

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

STANDARD_OUTPUT = ("-", "/dev/stdout")
"""Paths that mean standard output."""

_Writer = TypeVar("_Writer", bound="_LineWriter")


class _LineWriter:
    """A file that whole lines are appended to. An existing file does not change before the first line.

    Args:
        path: path of the file; `-` is standard output.
        overwrite: whether the first line replaces the contents of an existing file.
        header: first line of the file.
        files: opens it; None for the files of this process.
        limit: when a regular file becomes `<name>.1`; None for never.

    Raises:
        OutputError: the file cannot be written, or begins with another header.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool,
        header: bytes = b"",
        files: StateFiles | None = None,
        limit: LinesLimit | None = None,
    ) -> None:
        self.path = Path(path)
        self._files = files = files or state_files()
        self._header = header
        self._limit = limit
        self._first_ns = 0  # time of the first line
        self._place = files.place(self.path)
        self._is_new = str(path) not in STANDARD_OUTPUT and not os.path.lexists(self._place)
        self._is_regular = str(path) not in STANDARD_OUTPUT and (not self.path.exists() or self.path.is_file())
        try:
            self._file = _open(self.path, files if self._is_regular else None)
        except OSError as error:
            expected = "a reader at the other end" if error.errno == errno.ENXIO else "a writable file in an existing folder"
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; expected {expected}") from error
        self._overwrite = overwrite and self._is_regular
        self._closed = False
        self._before: bytes | None = header  # bytes to write before the first line; None once they are written
        if self._is_regular and not overwrite:
            self._prepare_append(header)

    def __enter__(self: _Writer) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def append(self, lines: bytes) -> None:
        """Append lines; the first call also writes the header.

        Raises:
            OutputError: the file cannot be written.
            BrokenPipeError: the reader of a pipe has closed it; the caller decides what that means.
        """
        try:
            if self._limit is not None and self._is_regular and lines:
                self._keep_within(self._limit)
            if self._before is not None:
                if self._overwrite:
                    self._file.empty()
                lines, self._before = self._before + lines, None
            if lines:
                self._file.append(lines)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; expected room on the disk") from error

    def close(self) -> None:
        """Close the file, and remove it if it is new and empty. Further calls have no effect."""
        if not self._closed and self._is_new and self._before is not None:
            self._place.unlink(missing_ok=True)
        self._closed = True
        self._file.close()

    def _keep_within(self, limit: LinesLimit) -> None:
        """Start another file where the limit is reached."""
        now_ns = time.time_ns()
        if not self._first_ns:
            found = [at for line in self._file.head(_HEADER_LIMIT_BYTES).splitlines()[:2] if (at := time_of_line(line)) is not None]
            self._first_ns = found[0][1] if found else now_ns
        if self._overwrite or not limit.is_reached(self._file.size, self._first_ns, now_ns):
            return
        os.replace(self._place, self._files.place(older_file(self.path)))
        self._file.close()
        self._file = _open(self.path, self._files)
        self._before, self._first_ns = self._header, now_ns

    def _prepare_append(self, header: bytes) -> None:
        """Check that an existing file begins with the header, and terminate a last line that a power cut left incomplete."""
        try:
            if self._file.size == 0:
                return
            self._before = b"" if self._file.tail(1) == b"\n" else b"\n"
            first = self._file.head(_HEADER_LIMIT_BYTES).partition(b"\n")[0].rstrip(b"\r")
        except OSError as error:
            self._file.close()
            raise OutputError(f"{self.path} cannot be read: {error.strerror}; expected a file to append to") from error
        if header and first != header.rstrip(b"\n"):
            self._file.close()
            raise OutputError(f"{self.path} begins with another header; expected an empty file or a file with the header of edgepose")


def _open(path: Path, files: StateFiles | None) -> StateFile:
    """Open a regular file for reading and appending through `files`, anything else for writing."""
    if str(path) in STANDARD_OUTPUT:
        return ClearFile(os.dup(1))  # the descriptor as inherited: with `>>` of the shell, it appends
    if files is not None:
        return files.open(path, KIND, mode=0o666)
    # Write-only: a process that also holds the reading end of a pipe is never told that the reader has closed it. Non-blocking: opening
    # does not wait for a reader that may never come.
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return ClearFile(descriptor)


class FilePosesMessage(PosesMessage, frozen=True, kw_only=True):
    """A pose message of a frame that comes from a file; only in files, never on MQTT."""

    source: Annotated[str, Meta(description="path of the file, as it was named; for a stream the name of the camera")]


def of_file(message: PosesMessage, source: str) -> FilePosesMessage:
    """Return a pose message that names the file of its frame."""
    return FilePosesMessage(**{name: getattr(message, name) for name in PosesMessage.__struct_fields__}, source=source)


class JsonLinesWriter(_LineWriter):
    """Writer of pose messages to a JSON Lines file, one object per line."""

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, files: StateFiles | None = None, limit: LinesLimit | None = None
    ) -> None:
        super().__init__(path, overwrite=overwrite, files=files, limit=limit)

    def write(self, message: PosesMessage) -> None:
        """Append the message of one frame."""
        self.append(encode(message) + b"\n")


class CsvWriter(_LineWriter):
    """Writer of people to a CSV file with the header `CSV_COLUMNS`. A frame without people adds no row.

    Texts that a spreadsheet would take for a formula begin with an apostrophe; numbers stay as they are.

    Args:
        path: path of the file; `-` is standard output.
        overwrite: whether the first line replaces the contents of an existing file.
        names_files: whether messages are `FilePosesMessage`, and the last column is `SOURCE_COLUMN`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, overwrite: bool = False, names_files: bool = False, limit: LinesLimit | None = None
    ) -> None:
        columns = (*CSV_COLUMNS, SOURCE_COLUMN) if names_files else CSV_COLUMNS
        super().__init__(path, overwrite=overwrite, header=",".join(columns).encode() + b"\n", limit=limit)

    def write(self, message: PosesMessage) -> None:
        """Append the people of one frame."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for person in message.people:
            track = "" if person.track is UNSET else person.track
            keypoints = [value for keypoint in person.keypoints for value in keypoint]
            source = [_text(message.source)] if isinstance(message, FilePosesMessage) else []
            camera = _text(message.camera)
            rows.writerow([camera, message.sequence, message.captured_at, track, person.score, *person.box, *keypoints, *source])
        self.append(text.getvalue().encode())


def _text(value: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(_FORMULA) else value
