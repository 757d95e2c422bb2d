"""Encrypted files: blocks on the disk, under names that tell nothing."""

import base64
import contextlib
import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag

from edgepose.encryption.blocks import BLOCK_BYTES, CAPACITY_BYTES, DataKey, is_key_block, padded_kind, unwrapped
from edgepose.encryption.files import StateFile, open_flags
from edgepose.encryption.master_keys import MasterKey

_log = logging.getLogger(__name__)

_FIRST_DATA = 2
_LENGTH_OFFSET, _LENGTH_BYTES = BLOCK_BYTES, BLOCK_BYTES // 2
_FILLER = bytes(CAPACITY_BYTES)
_READ_BLOCKS = 1024
_MOVED_SEARCH = 4096  # blocks
_NAME_PAD = 64


class EncryptedFile:
    """A file of blocks. What is opened for the first time writes nothing before its first `append`."""

    def __init__(self, descriptor: int, masters: list[MasterKey], kind: str, total: "Counter[str] | None" = None, shown: str = "") -> None:
        """
        Args:
            descriptor: open for reading and writing, without O_APPEND.
            masters: that may have wrapped its keys; the first wraps new ones.
            kind: of the file; empty for any.
            total: where damage is counted, beside the file's own count.
            shown: the file's path, for the log.
        """
        self.descriptor = descriptor
        self.damage: Counter[str] = Counter()
        self._masters = masters
        self._kind = kind
        self._total = Counter[str]() if total is None else total
        self._shown = shown
        self._first: DataKey | None = None
        self._key: DataKey | None = None  # of this opening
        self._blocks = 0  # in the file, once `_key` is there
        self._turn = 0  # of the length block

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return os.fstat(self.descriptor).st_size

    def read(self) -> bytes:
        """Return the whole content; a place that does not verify is replaced by zeros."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """Yield the content block by block, and count the places that do not verify once all is read."""
        found: Counter[str] = Counter()
        yield from self._parts(found)
        self.damage = found = +found
        self._total.update(found)
        if found:
            what = ", ".join(f"{cause} {count}" for cause, count in sorted(found.items()))
            _log.error("%s: places that do not verify: %s", self._shown, what)

    def head(self, limit_bytes: int) -> bytes:
        """Return the beginning of the content."""
        content = b""
        for part in self._parts(Counter()):
            content += part
            if len(content) >= limit_bytes:
                break
        return content[:limit_bytes]

    def tail(self, limit_bytes: int) -> bytes:
        """Return the end of the content."""
        count = self.size // BLOCK_BYTES
        blocks = limit_bytes // CAPACITY_BYTES + 2
        while True:
            begin = max(_FIRST_DATA, count - blocks)
            content = b"".join(part for _, part in self._data(begin, self._key_before(begin), Counter()))
            if len(content) >= limit_bytes or begin == _FIRST_DATA:
                return content[max(0, len(content) - limit_bytes) :]
            blocks *= 2  # most blocks are not full

    def append(self, data: bytes | bytearray, *, sync: bool = False) -> None:
        """Append data, all or nothing."""
        if not data:
            return
        if self._key is None:
            self._begin()
        assert self._key is not None
        assert self._first is not None
        sealed = self._key.sealed(memoryview(data), self._blocks)
        try:
            _write_at(self.descriptor, sealed, self._blocks * BLOCK_BYTES)
            if sync:
                os.fdatasync(self.descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self._blocks * BLOCK_BYTES)
            self._key = None  # the next attempt uses another key: no block number is used twice with one
            raise
        self._blocks += len(sealed) // BLOCK_BYTES
        self._note_length()

    def empty(self) -> None:
        """Remove the content."""
        os.ftruncate(self.descriptor, 0)
        self._first = self._key = None

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _begin(self) -> None:
        """Write the key block of this opening, and the beginning of a new file."""
        blocks, rest = divmod(self.size, BLOCK_BYTES)
        if rest:  # the power was cut while a block was written
            os.ftruncate(self.descriptor, blocks * BLOCK_BYTES)
        if blocks < _FIRST_DATA:
            key = DataKey.new(self._kind)
            self._turn = 1
            written = key.wrapped(self._masters[0], 0) + key.sealed_length(0, _FIRST_DATA) + key.sealed_length(1, _FIRST_DATA)
            _write_at(self.descriptor, written, 0)
            self._first, self._key, self._blocks = key, key, _FIRST_DATA
            return
        first = self._first_key()
        if first is None:
            raise OSError(errno.EIO, "its beginning does not verify under the master key")
        self._turn = max((turn for turn, _ in self._lengths(first)), default=0)
        key = DataKey.new(self._kind, first.file)
        _write_at(self.descriptor, key.wrapped(self._masters[0], blocks), blocks * BLOCK_BYTES)
        self._first, self._key, self._blocks = first, key, blocks + 1

    def _note_length(self) -> None:
        assert self._first is not None
        self._turn += 1
        half = self._first.sealed_length(self._turn, self._blocks)
        _write_at(self.descriptor, half, _LENGTH_OFFSET + self._turn % 2 * _LENGTH_BYTES)

    def _first_key(self) -> DataKey | None:
        key = unwrapped(os.pread(self.descriptor, BLOCK_BYTES, 0), 0, self._masters).key
        return key if key is not None and (not self._kind or key.kind == padded_kind(self._kind)) else None

    def _key_before(self, number: int) -> DataKey | None:
        """Return the data key of the block with a number."""
        for before in range(number - 1, _FIRST_DATA - 1, -1):
            block = os.pread(self.descriptor, BLOCK_BYTES, before * BLOCK_BYTES)
            if is_key_block(block):
                return unwrapped(block, before, self._masters).key
        return self._first_key()

    def _parts(self, found: Counter[str]) -> Iterator[bytes]:
        size = self.size
        if not size:
            return
        block = os.pread(self.descriptor, BLOCK_BYTES, 0)
        beginning = unwrapped(block, 0, self._masters)
        key = self._first_key()
        if key is None:
            found["foreign"] += 1
        elif not beginning.whole:
            found["key"] += 1
        # The lengths before the data: a process that appends at the same time writes them in the other order.
        lengths = self._lengths(key) if key is not None else []
        following = _FIRST_DATA
        for number, part in self._data(_FIRST_DATA, key, found, key.file if key is not None else None):
            following = number + 1
            yield part
        if key is None:
            return
        found["key"] += 2 - len(lengths)
        missing = max((blocks for _, blocks in lengths), default=0) - max(following, size // BLOCK_BYTES)
        if missing > 0:
            found["cut"] += missing
        if missing > 0 or size % BLOCK_BYTES:
            found["cut"] += size % BLOCK_BYTES > 0 and missing <= 0
            yield _FILLER

    def _lengths(self, key: DataKey) -> list[tuple[int, int]]:
        """Return the copies of the length block that verify; one that another process writes at this moment is read again."""
        found = key.opened_lengths(os.pread(self.descriptor, BLOCK_BYTES, _LENGTH_OFFSET))
        return found if len(found) == 2 else key.opened_lengths(os.pread(self.descriptor, BLOCK_BYTES, _LENGTH_OFFSET))

    def _data(self, begin: int, key: DataKey | None, found: Counter[str], file: bytes | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield number and data of each data block from one on."""
        number = begin
        span = (begin, begin)  # of blocks under the present key
        while chunk := os.pread(self.descriptor, _READ_BLOCKS * BLOCK_BYTES, number * BLOCK_BYTES):
            for offset in range(0, len(chunk) - BLOCK_BYTES + 1, BLOCK_BYTES):
                block = chunk[offset : offset + BLOCK_BYTES]
                if is_key_block(block):
                    wrapped = unwrapped(block, number, self._masters)
                    if wrapped.key is None or (file is not None and wrapped.key.file != file):
                        found["foreign"] += 1
                        key = None
                    else:
                        found["key"] += not wrapped.whole
                        key = wrapped.key
                    span = (number + 1, number + 1)
                    yield number, b""
                else:
                    data = None if key is None else key.opened(block, number)
                    if data is None:
                        found["moved" if key is not None and self._is_moved(key, block, span[0], number) else "damaged"] += 1
                    yield number, _FILLER if data is None else data
                number += 1
            if len(chunk) < BLOCK_BYTES:
                return
            if len(chunk) < _READ_BLOCKS * BLOCK_BYTES:
                return

    def _is_moved(self, key: DataKey, block: bytes, begin: int, number: int) -> bool:
        last = min(self.size // BLOCK_BYTES, begin + _MOVED_SEARCH)
        return any(key.opened(block, other) is not None for other in range(begin, last) if other != number)


class EncryptedFiles:
    """Files under names that tell nothing: AES-SIV of the name, so that no index can be lost, and a name is found without one.

    A folder that exists under its own name keeps it: the folders of the configuration do.
    """

    def __init__(self, masters: list[MasterKey]) -> None:
        """
        Args:
            masters: keys; the first writes, all of them read.
        """
        self.masters = masters
        self.damage: Counter[str] = Counter()

    def place(self, path: Path) -> Path:
        """Return where a file or folder is on the disk."""
        try:
            if not path.name or path.is_dir() or (os.path.lexists(path) and not path.is_file()):
                return path  # a folder of the configuration, a pipe, a device
            if self.name(path.name) is not None:
                return path  # is one already
        except OSError:  # a name that is too long
            return path
        folder = self.place(path.parent)
        candidates = [folder / sealed_name(path.name, master) for master in self.masters]
        return next((each for each in candidates if os.path.lexists(each)), candidates[0])

    def names(self, folder: Path) -> list[str]:
        """Return the names of all files and folders in a folder, sorted; empty where there is none."""
        try:
            found = os.listdir(self.place(folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in map(self.name, found) if name is not None)

    def sealed(self, name: str) -> str:
        """Return the name on the disk of a new file or folder."""
        return sealed_name(name, self.masters[0])

    def name(self, sealed: str) -> str | None:
        """Return the name that a name on the disk stands for, None where it is none of these."""
        return next((name for master in self.masters if (name := opened_name(sealed, master)) is not None), None)

    def open(self, path: Path, kind: str, *, mode: int = 0o600, truncate: bool = False, follow: bool = True) -> StateFile:
        """Open a file for reading and appending; it is created where it is missing."""
        descriptor = os.open(self.place(path), open_flags(truncate=truncate, follow=follow), mode)
        return EncryptedFile(descriptor, self.masters, kind, self.damage, str(path))

    def load(self, path: Path, kind: str) -> bytes:
        """Return the content of a file, where it exists."""
        file = EncryptedFile(os.open(self.place(path), os.O_RDONLY | os.O_CLOEXEC), self.masters, kind, self.damage, str(path))
        try:
            return file.read()
        finally:
            file.close()


def sealed_name(name: str, master: MasterKey) -> str:
    """Return the name on the disk, the same each time; names up to 62 bytes give 107 characters.

    Raises:
        OSError: it is too long.
    """
    encoded = os.fsencode(name) + b"\x80"
    encoded = encoded.ljust(-(-len(encoded) // _NAME_PAD) * _NAME_PAD, b"\0")
    sealed = base64.urlsafe_b64encode(master.naming.encrypt(encoded, [b"name"])).rstrip(b"=").decode()
    if len(sealed) > 255:
        raise OSError(errno.ENAMETOOLONG, "the name is too long to be encrypted")
    return sealed


def opened_name(sealed: str, master: MasterKey) -> str | None:
    """Return the name that a name on the disk stands for, None where it is none of this key."""
    if len(sealed) < 107:
        return None
    try:
        content = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        return os.fsdecode(master.naming.decrypt(content, [b"name"]).rstrip(b"\0").removesuffix(b"\x80"))
    except (InvalidTag, ValueError):
        return None


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
