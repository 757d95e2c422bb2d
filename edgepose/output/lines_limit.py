"""The size and age of files of lines, and the time of a line."""

import csv
from pathlib import Path

import msgspec

from edgepose.storage.span import nanoseconds


class LinesLimit(msgspec.Struct, frozen=True):
    """When a file of lines becomes `<name>.1`, in place of the one before: nothing is older, and both are not larger.

    Attributes:
        total_bytes: of both files together.
        age_ns: of the oldest line.
    """

    total_bytes: int
    age_ns: int

    def is_reached(self, size: int, first_ns: int, now_ns: int) -> bool:
        """Return whether a file of a size, whose first line is of a time, has half of what is allowed."""
        return size > self.total_bytes // 2 or now_ns - first_ns > self.age_ns // 2


def older_file(path: Path) -> Path:
    """Return the name that a file of lines gets when its limit is reached."""
    return path.with_name(f"{path.name}.1")


def time_of_line(line: bytes) -> tuple[str, int] | None:
    """Return camera and capture time of a line, JSON or CSV; None where it has none."""
    try:
        if line.startswith(b"{"):
            found = msgspec.json.decode(line, type=_Line)
            camera, text = found.camera, found.captured_at
        else:
            row = next(csv.reader([line.decode()]))
            camera, text = row[0].removeprefix("'"), row[2]
    except (msgspec.MsgspecError, UnicodeDecodeError, csv.Error, IndexError, StopIteration):
        return None
    at_ns = nanoseconds(text)
    return None if at_ns is None else (camera, at_ns)


class _Line(msgspec.Struct, frozen=True):
    camera: str
    captured_at: str
