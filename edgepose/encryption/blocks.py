"""Blocks of 1 KiB: what an encrypted file is made of.

===== ==========================================================================================================================
block content
===== ==========================================================================================================================
0     key block: a new data key, wrapped by the master key
1     length block: how many blocks were written, in two copies that take turns
n     data block, or a key block where the file was opened again
===== ==========================================================================================================================

A key block holds the same 512 bytes twice, so that no single fault costs the file: mark (8 bytes), identifier of the master key (8),
file (16), block number (8), nonce (12), and sealed with AES-256-GCM under the master key: data key (32), kind (16), zeros, tag (16). A
data block is sealed under the data key of the last key block before it; its nonce is its number, and file, number and kind are
associated data: swapped, repeated or foreign blocks do not verify. It holds a length (2 bytes), data, and zeros up to 1008 bytes. A
length copy of 512 bytes is a nonce (12) and, sealed under the first data key, a count of its own (8), the number of blocks (8), zeros, tag.
"""

import os
import secrets
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edgepose.encryption.master_keys import MasterKey

BLOCK_BYTES = 1024
CAPACITY_BYTES = BLOCK_BYTES - 16 - 2
"""Data that fits a block."""

_HALF_BYTES = BLOCK_BYTES // 2
_MARK = b"\xffEPKEY1\n"
_KEY_HEAD = struct.Struct("<8s8s16sQ")
_LENGTH = struct.Struct("<H")
_COUNTS = struct.Struct("<QQ")
_NONCE = struct.Struct("<4xQ")
_NONCE_BYTES, _TAG_BYTES, _KIND_BYTES = 12, 16, 16
_SEALED_KEY_BYTES = _HALF_BYTES - _KEY_HEAD.size - _NONCE_BYTES - _TAG_BYTES
_SEALED_COUNT_BYTES = _HALF_BYTES - _NONCE_BYTES - _TAG_BYTES


@dataclass(frozen=True)
class DataKey:
    """A data key of one file.

    Attributes:
        file: identifier of the file, 16 random bytes.
        kind: of the file, padded.
        secret: 32 random bytes.
    """

    file: bytes
    kind: bytes
    secret: bytes
    _cipher: AESGCM = field(init=False, repr=False, compare=False)

    @classmethod
    def new(cls, kind: str, file: bytes | None = None) -> "DataKey":
        """Return a random key, of a new file where none is given."""
        return cls(file or secrets.token_bytes(16), padded_kind(kind), secrets.token_bytes(32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cipher", AESGCM(self.secret))

    def __repr__(self) -> str:
        return f"DataKey(of {self.file.hex()})"

    def sealed(self, data: bytes | memoryview, first: int) -> bytes:
        """Return data as blocks that begin with a number."""
        encrypt, associated = self._cipher.encrypt, self.file + self.kind
        blocks = bytearray()
        for number, begin in enumerate(range(0, len(data), CAPACITY_BYTES), first):
            part = bytes(data[begin : begin + CAPACITY_BYTES])
            nonce = _NONCE.pack(number)
            blocks += encrypt(nonce, _LENGTH.pack(len(part)) + part.ljust(CAPACITY_BYTES, b"\0"), associated + nonce)
        return bytes(blocks)

    def opened(self, block: bytes, number: int) -> bytes | None:
        """Return the data of a block; None where it does not verify as the one with this number."""
        nonce = _NONCE.pack(number)
        try:
            plain: bytes = self._cipher.decrypt(nonce, block, self.file + self.kind + nonce)
        except InvalidTag:
            return None
        return plain[_LENGTH.size : _LENGTH.size + _LENGTH.unpack_from(plain)[0]]

    def sealed_length(self, turn: int, blocks: int) -> bytes:
        """Return one copy of the length block; `turn` counts its writings."""
        nonce = os.urandom(_NONCE_BYTES)
        plain = _COUNTS.pack(turn, blocks).ljust(_SEALED_COUNT_BYTES, b"\0")
        return nonce + self._cipher.encrypt(nonce, plain, self.file + b"length")

    def opened_lengths(self, block: bytes) -> list[tuple[int, int]]:
        """Return turn and number of blocks of each copy of a length block that verifies."""
        found = []
        for half in (block[:_HALF_BYTES], block[_HALF_BYTES:]):
            try:
                plain = self._cipher.decrypt(half[:_NONCE_BYTES], half[_NONCE_BYTES:], self.file + b"length")
            except (InvalidTag, ValueError):
                continue
            found.append(_COUNTS.unpack_from(plain))
        return found

    def wrapped(self, master: MasterKey, number: int) -> bytes:
        """Return the key block with this number."""
        head = _KEY_HEAD.pack(_MARK, master.identifier, self.file, number)
        nonce = os.urandom(_NONCE_BYTES)
        return 2 * (head + nonce + master.wrapping.encrypt(nonce, (self.secret + self.kind).ljust(_SEALED_KEY_BYTES, b"\0"), head))


@dataclass(frozen=True)
class UnwrappedKey:
    """A key block that was read.

    Attributes:
        key: None where no copy verifies under any of the master keys.
        master: that wraps it.
        whole: whether both copies verify.
    """

    key: DataKey | None
    master: MasterKey | None
    whole: bool


def is_key_block(block: bytes) -> bool:
    """Return whether a block is a key block, damaged or not."""
    return block.startswith(_MARK) or block[_HALF_BYTES:].startswith(_MARK)


def unwrapped(block: bytes, number: int, masters: list[MasterKey]) -> UnwrappedKey:
    """Return the data key of a key block."""
    halves = [_unwrapped_half(half, number, masters) for half in (block[:_HALF_BYTES], block[_HALF_BYTES:])]
    good = next((half for half in halves if half is not None), None)
    whole = all(half is not None for half in halves)
    return UnwrappedKey(None, None, whole=False) if good is None else UnwrappedKey(good[0], good[1], whole)


def rewrapped_halves(block: bytes, number: int, masters: list[MasterKey]) -> list[bytes] | None:
    """Return both halves of a key block under the first of the master keys, which are written one after the other.

    Returns:
        None where both are so already, or no copy verifies.
    """
    found = unwrapped(block, number, masters)
    halves = [_unwrapped_half(half, number, masters[:1]) for half in (block[:_HALF_BYTES], block[_HALF_BYTES:])]
    if found.key is None or all(half is not None for half in halves):
        return None
    new = found.key.wrapped(masters[0], number)
    return [new[:_HALF_BYTES], new[_HALF_BYTES:]]


def padded_kind(kind: str) -> bytes:
    """Return a kind as it is stored."""
    encoded = kind.encode()
    assert len(encoded) <= _KIND_BYTES, kind
    return encoded.ljust(_KIND_BYTES, b"\0")


def _unwrapped_half(half: bytes, number: int, masters: list[MasterKey]) -> tuple[DataKey, MasterKey] | None:
    if len(half) < _HALF_BYTES:
        return None
    head = half[: _KEY_HEAD.size]
    mark, identifier, file, said = _KEY_HEAD.unpack(head)
    master = next((each for each in masters if each.identifier == identifier), None)
    if mark != _MARK or said != number or master is None:
        return None
    begin = _KEY_HEAD.size + _NONCE_BYTES
    try:
        plain = master.wrapping.decrypt(half[_KEY_HEAD.size : begin], half[begin:], head)
    except InvalidTag:
        return None
    return DataKey(file, plain[32 : 32 + _KIND_BYTES], plain[:32]), master
