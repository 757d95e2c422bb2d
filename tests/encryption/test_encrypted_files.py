"""Encrypted files on a real disk: nothing readable, and whatever is done to them is found."""

import os
from collections import Counter

import pytest

from edgepose.encryption.blocks import BLOCK_BYTES, CAPACITY_BYTES
from edgepose.encryption.encrypted_files import EncryptedFile, EncryptedFiles, opened_name
from edgepose.encryption.files import ClearFiles, use_files, write_whole
from edgepose.encryption.master_keys import MasterKey
from edgepose.encryption.rotation import rotate

TEXTS = [f"record {number} of a person".encode() * (1 + 40 * (number % 3)) for number in range(12)]


@pytest.fixture
def master():
    return MasterKey.new()


@pytest.fixture
def files(master):
    return EncryptedFiles([master])


def written(files, path, kind="test"):
    """Write two openings of six records each and return the content."""
    for half in (TEXTS[:6], TEXTS[6:]):
        file = files.open(path, kind)
        for text in half:
            file.append(text)
        file.close()
    return b"".join(TEXTS)


def damage(files, path, kind="test"):
    file = files.open(path, kind)
    try:
        content = file.read()
    finally:
        file.close()
    return content, file.damage


def test_what_is_written_is_read_and_nothing_of_it_is_on_the_disk(files, tmp_path):
    path = tmp_path / "front-camera.jsonl"
    content = written(files, path)
    assert damage(files, path) == (content, Counter())
    (on_disk,) = tmp_path.iterdir()
    raw = on_disk.read_bytes()
    assert b"person" not in raw
    assert "front" not in on_disk.name
    assert len(raw) % BLOCK_BYTES == 0
    assert files.names(tmp_path) == ["front-camera.jsonl"]
    file = files.open(path, "test")
    assert file.head(30) == content[:30]
    for length in (1, 100, CAPACITY_BYTES, len(content) - 1, 10 * len(content)):
        assert file.tail(length) == content[-length:]
    file.close()


def test_each_opening_and_each_file_has_a_key_of_its_own(files, tmp_path):
    for name in ("a", "b"):
        written(files, tmp_path / name)
    blocks = [raw[at : at + BLOCK_BYTES] for each in tmp_path.iterdir() for raw in [each.read_bytes()] for at in range(0, len(raw), 1024)]
    assert len(set(blocks)) == len(blocks)  # the same content never gives the same bytes
    assert sum(block.startswith(b"\xffEPKEY1\n") for block in blocks) == 4


def flip(raw, block):
    raw[block * BLOCK_BYTES + 300] ^= 4


def swap(raw, block):
    one, other = slice(block * 1024, block * 1024 + 1024), slice(block * 1024 + 1024, block * 1024 + 2048)
    raw[one], raw[other] = raw[other], raw[one]


def repeat(raw, block):
    raw[block * 1024 + 1024 : block * 1024 + 2048] = raw[block * 1024 : block * 1024 + 1024]


def cut(raw, block):
    del raw[-block * BLOCK_BYTES :]


def cut_inside(raw, block):
    del raw[-block * BLOCK_BYTES + 10 :]


@pytest.mark.parametrize(
    ("change", "block", "cause"),
    [
        (flip, 0, {"key": 1}),  # a copy is left
        (flip, 1, {"key": 1}),
        (flip, 3, {"damaged": 1}),
        (swap, 3, {"moved": 2}),
        (repeat, 3, {"moved": 1}),
        (cut, 1, {"cut": 1}),
        (cut, 2, {"cut": 2}),
        (cut_inside, 1, {"cut": 1}),
    ],
)
def test_whatever_is_done_to_a_record_is_found_and_costs_nothing_else(files, tmp_path, change, block, cause):
    path = tmp_path / "file"
    content = written(files, path)
    raw = bytearray(files.place(path).read_bytes())
    change(raw, block)
    files.place(path).write_bytes(raw)
    read, found = damage(files, path)
    assert found == cause
    assert files.damage == cause  # what the metrics show
    lost = sum(cause.values()) if "key" not in cause else 0
    kept = sum(text in read for text in TEXTS)
    assert kept >= len(TEXTS) - lost - (change in (swap, repeat))
    assert (read == content) == (lost == 0)


def test_records_and_files_of_another_device_do_not_verify(files, tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    written(files, path)
    stranger = EncryptedFiles([MasterKey.new()])
    written(stranger, other)
    raw, foreign = bytearray(files.place(path).read_bytes()), stranger.place(other).read_bytes()
    raw[5 * 1024 : 6 * 1024] = foreign[5 * 1024 : 6 * 1024]
    raw[-1024:] = foreign[:1024]
    files.place(path).write_bytes(raw)
    assert damage(files, path)[1] == {"damaged": 1, "foreign": 1}
    files.place(path).write_bytes(foreign)
    content, found = damage(files, path)
    assert found["foreign"] == 2  # its beginning, and the key of the second opening
    assert not content.strip(b"\0")


def test_a_file_of_another_kind_does_not_verify(files, tmp_path):
    written(files, tmp_path / "file", "events")
    assert damage(files, tmp_path / "file", "lines")[1]["foreign"] == 1


def test_a_disk_that_fails_costs_nothing_that_was_written(files, tmp_path, monkeypatch):
    path = tmp_path / "file"
    file = files.open(path, "test")
    file.append(b"first")
    real, failures = os.pwrite, [OSError(28, "no space left on device")]

    def failing(descriptor, data, offset):
        real(descriptor, bytes(data)[:100], offset)
        raise failures[0]

    monkeypatch.setattr(os, "pwrite", failing)
    with pytest.raises(OSError, match="no space"):
        file.append(b"second")
    monkeypatch.setattr(os, "pwrite", real)
    file.append(b"third")
    assert (file.read(), file.damage) == (b"firstthird", Counter())
    file.close()


def test_a_torn_block_is_found_and_the_next_opening_continues(files, tmp_path):
    path = tmp_path / "file"
    written(files, path)
    with files.place(path).open("ab") as torn:
        torn.write(b"x" * 500)
    assert damage(files, path)[1] == {"cut": 1}
    file = files.open(path, "test")
    file.append(b"after")
    assert file.read().endswith(b"after")
    assert not file.damage
    file.close()


def test_folders_of_the_configuration_keep_their_names_and_others_do_not(files, tmp_path):
    (tmp_path / "box").mkdir()
    ring = tmp_path / "box" / "ring"
    files.place(ring).mkdir()
    written(files, ring / "1.segment")
    assert files.names(tmp_path / "box") == ["ring"]
    assert files.names(ring) == ["1.segment"]
    assert [each.name for each in tmp_path.iterdir()] == ["box"]
    os.rename(files.place(ring), files.place(tmp_path / "box" / "recording"))
    assert files.load(tmp_path / "box" / "recording" / "1.segment", "test") == b"".join(TEXTS)


def test_after_a_rotation_the_key_before_opens_nothing(files, master, tmp_path):
    folder = tmp_path / "box"
    folder.mkdir()
    written(files, tmp_path / "file")
    files.place(folder / "ring").mkdir()
    content = written(files, folder / "ring" / "1.segment")
    new = MasterKey.new()
    done = rotate([tmp_path, folder], [new, master])
    assert (done.files, done.keys, done.names) == (2, 4, 3)
    assert rotate([tmp_path, folder], [new, master]).keys == 0
    after = EncryptedFiles([new])
    assert damage(after, tmp_path / "file") == (content, Counter())
    assert damage(after, folder / "ring" / "1.segment") == (content, Counter())
    for place in tmp_path.rglob("*"):
        if place != folder:
            assert opened_name(place.name, master) is None
        if place.is_file():
            before = EncryptedFile(os.open(place, os.O_RDONLY), [master], "test")
            assert not before.read().strip(b"\0")
            assert before.damage["foreign"] == 2
            before.close()


def test_a_file_is_replaced_whole(files, tmp_path):
    before = use_files(files)
    try:
        for content in (b"one", b"two" * 1000):
            write_whole(tmp_path / "file", content, "test")
            assert files.load(tmp_path / "file", "test") == content
    finally:
        use_files(before)
    assert files.names(tmp_path) == ["file"]


def test_clear_files_are_as_their_room_writes_them(tmp_path):
    file = ClearFiles().open(tmp_path / "file", "test")
    file.append(b"one\n")
    file.append(b"two\n", sync=True)
    assert (file.head(3), file.tail(4), file.read(), file.size) == (b"one", b"two\n", b"one\ntwo\n", 8)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"


def test_a_file_that_grows_while_it_is_read_is_not_damaged(files, tmp_path, monkeypatch):
    content = written(files, tmp_path / "file")
    reader, writer, read_data = files.open(tmp_path / "file", "test"), files.open(tmp_path / "file", "test"), EncryptedFile._data

    def data_that_is_no_longer_all(self, *arguments):
        yield from read_data(self, *arguments)
        for text in TEXTS:
            writer.append(text)

    monkeypatch.setattr(EncryptedFile, "_data", data_that_is_no_longer_all)
    assert (reader.read(), reader.damage) == (content, Counter())
    reader.close()
    writer.close()
