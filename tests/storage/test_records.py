"""The record format: what verifies is read, whatever is around it."""

import random

import pytest

from edgepose.storage.records import Damage, StoredRecord, packed_record, scan_records

RECORDS = [StoredRecord(1, number, b"payload %d" % number * number) for number in range(1, 6)]
PACKED = [packed_record(record.kind, record.number, record.payload) for record in RECORDS]
DATA = b"".join(PACKED)


def test_records_are_read_as_they_were_written():
    assert list(scan_records(DATA)) == RECORDS
    assert list(scan_records(b"line\n" + DATA, 5)) == RECORDS


@pytest.mark.parametrize("offset", range(len(PACKED[0]) + len(PACKED[1])))
def test_a_flipped_bit_costs_one_record(offset):
    for bit in range(8):
        data = bytearray(DATA)
        data[offset] ^= 1 << bit
        found = list(scan_records(bytes(data)))
        struck = 0 if offset < len(PACKED[0]) else 1
        assert [item for item in found if isinstance(item, StoredRecord)] == RECORDS[:struck] + RECORDS[struck + 1 :]
        damage = next(item for item in found if isinstance(item, Damage))
        assert damage.offset == struck * len(PACKED[0])
        assert damage.number in (None, struck + 1)
        assert not damage.at_end


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 30, len(PACKED[-1]) - 1])
def test_a_torn_end_costs_the_last_record(cut):
    found = list(scan_records(DATA[:-cut]))
    assert found[:-1] == RECORDS[:-1]
    assert isinstance(found[-1], Damage)
    assert found[-1].at_end


def test_pieces_cut_out_and_doubled_leave_the_others():
    draw = random.Random(1)
    for _ in range(300):
        begin = draw.randrange(len(DATA))
        end = begin + draw.randrange(60)
        data = DATA[:begin] + DATA[end:] if draw.random() < 0.5 else DATA[:end] + DATA[begin:]
        found = [item for item in scan_records(data) if isinstance(item, StoredRecord)]
        assert all(item in RECORDS for item in found)
        assert len(found) >= 3 if end - begin < len(PACKED[-2]) and data != DATA else found
