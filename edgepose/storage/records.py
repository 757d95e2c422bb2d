"""Records with number, length and tag: the format of every file that must survive damage, such as the event store and the black box.

A record is a head of 24 bytes, a payload and a tag of 16 bytes (little-endian):

====== ===== =====================================================================================
offset bytes content
====== ===== =====================================================================================
0      4     mark, `FF 45 50 52`; FF occurs in no UTF-8 text
4      1     kind of tag: 0 for CRC-32; AES-256-GCM can take another number, and its tag fits the place
5      1     kind of record, named by the file
6      2     zero
8      8     number: records of one kind count from 1 in each file
16     4     length of the payload
20     4     CRC-32 of the 20 bytes before
24     n     payload
24 + n 16    tag over head and payload: CRC-32, then zeros
====== ===== =====================================================================================

The head has a checksum of its own, so that a damaged payload costs only its own record. After a damaged head, reading resumes at the next
mark with a valid head. What is missing shows in the numbers.
"""

import struct
import zlib
from collections.abc import Iterator

import msgspec

PAYLOAD_LIMIT_BYTES = 64 << 20
"""Longest payload; a longer length is damage."""

_MARK = b"\xffEPR"
_HEAD = struct.Struct("<4sBBHQI")
_CHECK = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CHECK.size
_TAG_BYTES = 16
_CRC = 0


class StoredRecord(msgspec.Struct, frozen=True):
    """A record that verifies.

    Attributes:
        kind: of the record.
        number: of the record among those of its kind.
        payload: its content.
    """

    kind: int
    number: int
    payload: bytes


class Damage(msgspec.Struct, frozen=True):
    """A place that cannot be read.

    Attributes:
        offset: of its first byte.
        kind: of the damaged record; None where that is lost too.
        number: of the damaged record; None where that is lost too, and then any number of records may be gone.
        at_end: whether nothing that verifies follows.
    """

    offset: int
    kind: int | None
    number: int | None
    at_end: bool = False


def packed_record(kind: int, number: int, payload: bytes) -> bytes:
    """Return a record as it is written."""
    head = _HEAD.pack(_MARK, _CRC, kind, 0, number, len(payload))
    head += _CHECK.pack(zlib.crc32(head))
    return head + payload + _tag(head, payload)


def scan_records(data: bytes, offset: int = 0) -> Iterator[StoredRecord | Damage]:
    """Yield all records that verify, and each damaged place, in order.

    Args:
        data: content of a file.
        offset: of the first record.
    """
    end = len(data)
    while offset < end:
        head = _head_at(data, offset)
        if head is None:
            following = _next_head(data, offset + 1)
            yield Damage(offset, None, None, at_end=following is None)
            offset = end if following is None else following
            continue
        kind, number, length = head
        begin, stop = offset + _HEAD_BYTES, offset + _HEAD_BYTES + length
        payload = data[begin:stop]
        if data[stop : stop + _TAG_BYTES] == _tag(data[offset:begin], payload):
            yield StoredRecord(kind, number, payload)
        else:
            yield Damage(offset, kind, number, at_end=stop + _TAG_BYTES >= end)
        offset = stop + _TAG_BYTES


def _tag(head: bytes, payload: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(payload, zlib.crc32(head))).ljust(_TAG_BYTES, b"\0")


def _head_at(data: bytes, offset: int) -> tuple[int, int, int] | None:
    """Return kind, number and payload length of the record at an offset; None where no valid head is there."""
    head = data[offset : offset + _HEAD_BYTES]
    if len(head) < _HEAD_BYTES or not head.startswith(_MARK):
        return None
    if _CHECK.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[: _HEAD.size]):
        return None
    _, tag_kind, kind, _, number, length = _HEAD.unpack_from(head)
    return (kind, number, length) if tag_kind == _CRC and length <= PAYLOAD_LIMIT_BYTES else None


def _next_head(data: bytes, offset: int) -> int | None:
    while (offset := data.find(_MARK, offset)) >= 0:
        if _head_at(data, offset) is not None:
            return offset
        offset += 1
    return None
