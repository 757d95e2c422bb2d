"""Pose messages in files: JSON lines, the same objects as on MQTT, and CSV, one row a person.

One frame is one `write` to the system, unbuffered: whoever follows the file sees whole lines at once, and a killed process leaves none
half written. Nothing is synced to the disk, which would wear a memory card: a power cut costs the last seconds.
"""

import csv
import io
import os
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from msgspec import UNSET

from edgepose.errors import OutputError
from edgepose.output.messages import PosesMessage, encode
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


_Writer = TypeVar("_Writer", bound="_Lines")


class _Lines:
    """A file that whole lines are appended to."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise OutputError(f"Cannot write to {self.path}: {error.strerror}; a writable file in an existing folder is needed.") from error

    def __enter__(self: _Writer) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def append(self, lines: bytes) -> None:
        try:
            written = self._file.write(lines)
        except OSError as error:
            raise OutputError(f"Cannot write to {self.path}: {error.strerror}.") from error
        if written != len(lines):
            raise OutputError(f"Cannot write to {self.path}: only {written} of {len(lines)} bytes were taken; the disk may be full.")

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        self._file.close()

    def begin(self) -> bytes:
        """First line of what is there already, without its end; a last line that a power cut left unfinished is ended."""
        try:
            size = self._file.seek(0, os.SEEK_END)
            if size == 0:
                return b""
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                self.append(b"\n")
            self._file.seek(0)
            return self._file.readline(65536).rstrip(b"\r\n")
        except OSError as error:  # a pipe, a terminal: nothing was there before
            if self._file.seekable():
                raise OutputError(f"Cannot read {self.path}: {error.strerror}.") from error
            return b""


class JsonLinesWriter(_Lines):
    """Appends pose messages to a file, one JSON object a line; OutputError where it cannot be written."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.begin()

    def write(self, message: PosesMessage) -> None:
        """Append one frame."""
        self.append(encode(message) + b"\n")


class CsvWriter(_Lines):
    """Appends people to a CSV file with the header `CSV_COLUMNS`; a frame without people adds nothing.

    OutputError where the file cannot be written, or holds another table already.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        header = ",".join(CSV_COLUMNS).encode()
        found = self.begin()
        if not found:
            self.append(header + b"\n")
        elif found != header:
            self.close()
            raise OutputError(f"{self.path} begins with another header than ours; an empty file, or one of ours to append to, is needed.")

    def write(self, message: PosesMessage) -> None:
        """Append the people of one frame."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for person in message.people:
            track = "" if person.track is UNSET else person.track
            keypoints = [value for keypoint in person.keypoints for value in keypoint]
            rows.writerow([message.camera, message.sequence, message.captured_at, track, person.score, *person.box, *keypoints])
        if message.people:
            self.append(text.getvalue().encode())
