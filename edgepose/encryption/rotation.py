"""Rotation of the master key: every data key is wrapped anew and every name is sealed anew, so that the key before opens nothing.

At any moment each key block has one half under the key before or the new one, and each file one name under either, so a process that
has both keys reads everything, whenever the rotation was cut off.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepose.encryption.blocks import BLOCK_BYTES, is_key_block, rewrapped_halves
from edgepose.encryption.encrypted_files import opened_name, sealed_name
from edgepose.encryption.master_keys import MasterKey

_READ_BYTES = 1024 * BLOCK_BYTES


@dataclass(slots=True)
class Rotated:
    """What a rotation did.

    Attributes:
        files: encrypted files that were found.
        keys: data keys that were wrapped anew.
        names: names that were sealed anew.
    """

    files: int = 0
    keys: int = 0
    names: int = 0


def rotate(folders: list[Path], masters: list[MasterKey]) -> Rotated:
    """Bring all files in the folders under the first of the master keys.

    Args:
        folders: as `state_folders` gives them, locked.
        masters: the new key, then those before.

    Raises:
        OSError: the disk fails; what is done stays done, and a further call does the rest.
    """
    done = Rotated()
    for folder in folders:
        if folder.is_dir():
            _rotate_folder(folder, masters, done)
    return done


def encrypted_in(folder: Path, masters: list[MasterKey]) -> Iterator[tuple[Path, str]]:
    """Yield each file below a folder that is encrypted under one of the keys, with its path as the rooms know it."""
    for place in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = _name(place.name, masters)
        if name is None:
            continue
        if place.is_dir() and not place.is_symlink():
            yield from ((inner, f"{name}/{shown}") for inner, shown in encrypted_in(place, masters))
        elif place.is_file():
            yield place, name


def _rotate_folder(folder: Path, masters: list[MasterKey], done: Rotated) -> None:
    changed = False
    for place in sorted(folder.iterdir()):
        name = _name(place.name, masters)
        if name is None:
            continue
        if place.is_dir() and not place.is_symlink():
            _rotate_folder(place, masters, done)
        elif place.is_file():
            done.files += 1
            done.keys += _rewrap(place, masters)
        sealed = sealed_name(name, masters[0])
        if sealed != place.name:
            os.rename(place, folder / sealed)
            done.names += 1
            changed = True
    if changed:
        _sync(folder)


def _name(sealed: str, masters: list[MasterKey]) -> str | None:
    return next((name for master in masters if (name := opened_name(sealed, master)) is not None), None)


def _rewrap(place: Path, masters: list[MasterKey]) -> int:
    """Wrap the data keys of one file anew, and return how many were under another key."""
    os_mode = place.stat().st_mode
    if not os_mode & 0o200 and os.geteuid() != 0:  # segments are read-only for other programs
        place.chmod(os_mode | 0o200)
    descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found: list[tuple[int, list[bytes]]] = []
        offset = 0
        while chunk := os.pread(descriptor, _READ_BYTES, offset):
            for begin in range(0, len(chunk) - BLOCK_BYTES + 1, BLOCK_BYTES):
                block = chunk[begin : begin + BLOCK_BYTES]
                if is_key_block(block):
                    halves = rewrapped_halves(block, (offset + begin) // BLOCK_BYTES, masters)
                    if halves is not None:
                        found.append((offset + begin, halves))
            offset += len(chunk)
        for half in range(2) if found else ():
            for begin, halves in found:
                os.pwrite(descriptor, halves[half], begin + half * len(halves[half]))
            os.fsync(descriptor)  # one half of each key block is whole at any moment
        return len(found)
    finally:
        os.close(descriptor)
        if not os_mode & 0o200 and os.geteuid() != 0:
            place.chmod(os_mode)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
