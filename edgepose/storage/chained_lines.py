"""Files of JSON lines, each with a number and a hash over itself and the line before: a changed, deleted or reordered line shows.

`<name>` holds the newest lines; at its limit it is renamed to `<name>.1`, which replaces the one before. `<name>.head` holds number and
hash of the last line, so that missing last lines show too, and where each file begins. The hashes have no key: they show what a careless or
unaware hand did. Who may write all three files can write them anew, and a copy of the last hash elsewhere shows that.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgepose.encryption.files import StateFile, state_files, write_whole

_NO_HASH = "0" * 64
_CHAIN = re.compile(rb',"hash":"([0-9a-f]{64})"\}$')
_TAIL_BYTES = 64 * 1024  # longer than any line
_KIND, _HEAD_KIND = "lines", "lines head"


class _Beginning(msgspec.Struct, frozen=True):
    """Where a file begins: number of its first line, and hash of the line before."""

    first: int
    previous: str


class _Head(msgspec.Struct, frozen=True):
    number: int
    hash: str
    files: list[_Beginning]  # of `<name>.1`, where it exists, and of `<name>`


class _Numbered(msgspec.Struct, frozen=True):
    number: int


class Verification(msgspec.Struct, frozen=True):
    """The result of reading chained lines.

    Attributes:
        lines: number of lines that verify.
        unchained: number of lines of an earlier version, without hashes.
        last: hash of the last line, empty where there is none.
        problems: what is wrong, each in a few words with its place.
    """

    lines: int
    unchained: int
    last: str
    problems: list[str]


class ChainedLines:
    """A writer of chained lines; not thread-safe. Methods raise OSError where the disk fails.

    Args:
        path: of the file; created with mode 0600.
        limit_bytes: size at which it is renamed.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._last: _Head | None = None  # read with the first line: until then, another writer may be at work
        self._file: StateFile | None = None
        state_files().open(path, _KIND, follow=False).close()

    def append(self, fields: dict[str, Any]) -> None:
        """Append a line with these fields, between its number and its hash."""
        head = self._last or _resume(self._path)
        number = head.number + 1
        body = msgspec.json.encode({"number": number, **fields})
        chained = _hash(head.hash, body)
        line = body[:-1] + b',"hash":"' + chained.encode() + b'"}\n'
        files = head.files
        file = self._opened()
        if file.size + len(line) > self._limit_bytes:
            place = state_files().place
            os.replace(place(self._path), place(_before(self._path)))
            file = self._opened()
            files = [files[-1], _Beginning(number, head.hash)]
        file.append(line)
        self._last = _Head(number, chained, files)
        _write_head(self._path, self._last)

    def close(self) -> None:
        """Close the file; the next line looks at it anew."""
        self._last = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> StateFile:
        """Return the file that has the path now."""
        if self._file is not None and not _is_at(self._file, self._path):
            self.close()
        if self._file is None:
            self._file = state_files().open(self._path, _KIND, follow=False)
        return self._file


def forget_lines(path: Path, unwanted: Callable[[bytes], bool]) -> int:
    """Delete lines, number and chain the others anew, and return how many were deleted; no writer is at work meanwhile.

    Args:
        path: of the file; the one before it is treated likewise.
        unwanted: whether a line is deleted.

    Raises:
        OSError: the disk fails; where that happens in between, the lines no longer verify.
    """
    files = state_files()
    gone = 0
    head = _Head(0, _NO_HASH, [])
    changed: list[tuple[Path, bytes]] = []
    for each in (_before(path), path):
        if not files.place(each).exists():
            continue
        head = _Head(head.number, head.hash, [*head.files, _Beginning(head.number + 1, head.hash)])
        content = b""
        for line in files.load(each, _KIND).splitlines():
            if unwanted(line):
                gone += 1
                continue
            found, number = _CHAIN.search(line), _numbered(line)
            if found is None or number is None:
                content += line + b"\n"
                continue
            following = head.number + 1
            body = line[: found.start()].replace(b'{"number":%d' % number, b'{"number":%d' % following, 1) + b"}"
            chained = _hash(head.hash, body)
            content += body[:-1] + b',"hash":"' + chained.encode() + b'"}\n'
            head = _Head(following, chained, head.files)
        changed.append((each, content))
    if gone:
        for each, content in changed:
            write_whole(each, content, _KIND)
        _write_head(path, head)
    return gone


def verify_lines(path: Path) -> Verification:
    """Verify all lines of a file and the one before it.

    Raises:
        OSError: they cannot be read.
    """
    problems: list[str] = []
    head = _read_head(path)
    if head is None:
        problems.append(f"{path.name}.head is missing or damaged, so that missing last lines would not show")
    files = state_files()
    places = [each for each in (_before(path), path) if files.place(each).exists()]
    if not places:
        raise FileNotFoundError(2, "no such file", str(path))
    number, previous = (head.files[0].first - 1, head.files[0].previous) if head is not None and head.files else (None, None)
    lines = unchained = 0
    for place in places:
        for at, line in enumerate(files.load(place, _KIND).splitlines(), 1):
            where = f"{place.name} line {at}"
            found = _CHAIN.search(line)
            parsed = _numbered(line)
            if found is None or parsed is None:
                if found is None and parsed is None and lines == 0 and line.startswith(b"{") and b'"at"' in line:
                    unchained += 1
                else:
                    problems.append(f"{where} is no line of edgepose")
                continue
            body, chained = line[: found.start()] + b"}", found[1].decode()
            if number is not None and parsed != number + 1:
                what = f"number {number + 1} is missing" if parsed == number + 2 else f"numbers {number + 1} to {parsed - 1} are missing"
                problems.append(f"{where}: {what}" if parsed > number else f"{where}: number {parsed} comes after {number}")
            elif previous is not None and _hash(previous, body) != chained:
                problems.append(f"{where}: number {parsed} does not match its hash")
            else:
                lines += 1
            number, previous = parsed, chained
    if head is not None and (number or 0) < head.number:
        problems.append(f"the last lines are missing: number {number or 0} is the last, and {head.number} was written")
    return Verification(lines, unchained, previous or "", problems)


def _hash(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()


def _is_at(file: StateFile, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.descriptor), os.stat(state_files().place(path)))
    except FileNotFoundError:
        return False


def _before(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _numbered(line: bytes) -> int | None:
    try:
        return msgspec.json.decode(line, type=_Numbered).number
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _resume(path: Path) -> _Head:
    """Return where the lines on disk end."""
    head = _read_head(path) or _Head(0, _NO_HASH, [])
    last = _last_line(path)
    if last is not None and last[0] >= head.number:  # the process ended between the line and the head
        head = _Head(*last, head.files)
    return head if head.files else _Head(head.number, head.hash, [_Beginning(head.number + 1, head.hash)])


def _last_line(path: Path) -> tuple[int, str] | None:
    """Return number and hash of the last line of a file, None where it has none."""
    file = state_files().open(path, _KIND, follow=False)
    try:
        lines = file.tail(_TAIL_BYTES).splitlines()
    finally:
        file.close()
    found = _CHAIN.search(lines[-1]) if lines else None
    number = _numbered(lines[-1]) if lines else None
    return (number, found[1].decode()) if found is not None and number is not None else None


def _read_head(path: Path) -> _Head | None:
    try:
        return msgspec.json.decode(state_files().load(_head_of(path), _HEAD_KIND), type=_Head)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _write_head(path: Path, head: _Head) -> None:
    write_whole(_head_of(path), msgspec.json.encode(head), _HEAD_KIND, sync=False)


def _head_of(path: Path) -> Path:
    return path.with_name(path.name + ".head")
