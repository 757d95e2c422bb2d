"""Pose messages in files: JSON lines, the same objects as on MQTT, and CSV, one row a person.

One frame is one `write` to the system, unbuffered: whoever follows the file sees whole lines at once, and a killed process leaves none
half written. Nothing is synced to the disk, which would wear a memory card: a power cut costs the last seconds.
"""

import csv
import errno
import io
import os
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from msgspec import UNSET

from edgepose.errors import OutputError
from edgepose.messages.structs import PosesMessage, encode
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
"""Columns of the CSV file: values as in the pose message, `track` empty where there is none."""

STANDARD_OUTPUT = ("-", "/dev/stdout")
"""Names that mean standard output."""

_Writer = TypeVar("_Writer", bound="_Lines")


class _Lines:
    """A file that whole lines are appended to; what is there already is not touched before the first of them.

    Args:
        path: of the file; `-` is standard output.
        afresh: whether the first line takes the place of what is there.
        header: line that a file begins with.
    """

    def __init__(self, path: str | os.PathLike[str], *, afresh: bool, header: bytes = b"") -> None:
        self.path = Path(path)
        self._is_new = str(path) not in STANDARD_OUTPUT and not os.path.lexists(path)
        try:
            self._file = _open(self.path)
        except OSError as error:
            expected = "a reader at the other end" if error.errno == errno.ENXIO else "a writable file in an existing folder"
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; expected {expected}") from error
        self._afresh = afresh and self._file.readable()
        self._before: bytes | None = header  # what comes before the first line; None once that is written
        if self._file.readable() and not afresh:
            self._continue(header)

    def __enter__(self: _Writer) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def append(self, lines: bytes) -> None:
        """Write lines, the very first after what has to come before them.

        Raises:
            OutputError: the file cannot be written.
            BrokenPipeError: whoever read it has gone, which is for the caller to judge.
        """
        try:
            if self._before is not None:
                if self._afresh:
                    self._file.truncate(0)
                lines, self._before = self._before + lines, None
            written = self._file.write(lines) if lines else 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; expected room on the disk") from error
        if written != len(lines):
            raise OutputError(f"{self.path} cannot be written: it took {written} of {len(lines)} bytes; expected room on the disk")

    def close(self) -> None:
        """Close the file, and remove it where it is ours and nothing was written; more than once does no harm."""
        if not self._file.closed and self._is_new and self._before is not None:
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _continue(self, header: bytes) -> None:
        """Look at what is there: it must begin with our header, and a last line that a power cut left unfinished is to be ended."""
        try:
            size = self._file.seek(0, os.SEEK_END)
            if size == 0:
                return
            self._file.seek(size - 1)
            self._before = b"" if self._file.read(1) == b"\n" else b"\n"
            self._file.seek(0)
            first = self._file.readline(65536).rstrip(b"\r\n")
        except OSError as error:
            self._file.close()
            raise OutputError(f"{self.path} cannot be read: {error.strerror}; expected a file to append to") from error
        if header and first != header.rstrip(b"\n"):
            self._file.close()
            raise OutputError(f"{self.path} begins with another header than ours; expected an empty file, or one of ours to append to")


def _open(path: Path) -> io.FileIO:
    """A file for reading and appending, anything else for writing."""
    if str(path) in STANDARD_OUTPUT:
        return io.FileIO(os.dup(1), "wb")  # as it was handed to us: `>>` of the shell keeps what is there
    if not path.exists() or path.is_file():
        return io.FileIO(path, "a+b")
    # Not for reading: whoever holds the other end of a pipe too never hears that its reader has gone. And without waiting for a
    # reader that may never come.
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return io.FileIO(descriptor, "wb")


class JsonLinesWriter(_Lines):
    """Appends pose messages to a file, one JSON object a line; OutputError where it cannot be written."""

    def __init__(self, path: str | os.PathLike[str], *, afresh: bool = False) -> None:
        super().__init__(path, afresh=afresh)

    def write(self, message: PosesMessage) -> None:
        """Append one frame."""
        self.append(encode(message) + b"\n")


class CsvWriter(_Lines):
    """Appends people to a CSV file with the header `CSV_COLUMNS`; a frame without people adds nothing.

    OutputError where the file cannot be written, or holds another table already.
    """

    def __init__(self, path: str | os.PathLike[str], *, afresh: bool = False) -> None:
        super().__init__(path, afresh=afresh, header=",".join(CSV_COLUMNS).encode() + b"\n")

    def write(self, message: PosesMessage) -> None:
        """Append the people of one frame."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for person in message.people:
            track = "" if person.track is UNSET else person.track
            keypoints = [value for keypoint in person.keypoints for value in keypoint]
            rows.writerow([message.camera, message.sequence, message.captured_at, track, person.score, *person.box, *keypoints])
        self.append(text.getvalue().encode())
