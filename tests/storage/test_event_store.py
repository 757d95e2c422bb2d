"""The event store on real files: what is in it survives, whatever happens to process, file and disk."""

import contextlib
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from functools import partial

import pytest

from edgepose.mqtt.outbox import Outgoing
from edgepose.storage import event_store as module
from edgepose.storage.event_file import forget_events, recovered
from edgepose.storage.event_store import EventStore
from testing.waiting import wait_for


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "LINGER_S", 0.05)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


def made(topic, payload):
    return Outgoing(topic, payload, qos=1)


class Opened(EventStore[Outgoing]):
    """A store that remembers what it found."""

    def __init__(self, path, limit):
        self.found = []
        self.dropped = 0
        super().__init__(path, limit, self.take, made)

    def take(self, messages, dropped):
        self.found += messages
        self.dropped += dropped

    def payloads(self):
        return [message.payload for message in self.found]


@contextmanager
def opened(path, limit=1000):
    store = Opened(path, limit)
    store.start()
    try:
        yield store
    finally:
        store.close(10)


def messages(count, size=0):
    return [Outgoing("edgepose/drone/cameras/front/events", str(number).encode().ljust(size), qos=1) for number in range(count)]


def keep(store, kept):
    for message in kept:
        store.keep(message)
    wait_for(lambda: all(map(store.holds, kept)))


def test_what_is_kept_is_found_by_the_next_run_in_order(path):
    kept = messages(50)
    with opened(path) as store:
        keep(store, kept)
        for message in kept[:20]:
            store.forget(message)
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 30)
    assert store.payloads() == [message.payload for message in kept[20:]]
    assert [(message.topic, message.qos, message.retained) for message in store.found[:1]] == [(kept[0].topic, 1, False)]


def test_closing_writes_what_came_last(path):
    with opened(path) as store:
        for message in messages(10):
            store.keep(message)
    assert not store.keep(messages(1)[0])
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 10)


def test_what_is_acknowledged_before_it_was_written_is_not_written(path):
    with opened(path) as store:
        for message in messages(200):
            store.keep(message)
            store.forget(message)
    with opened(path) as store:
        keep(store, messages(1))  # it has looked by now
    assert store.found == []


def test_of_too_many_the_oldest_go(path):
    with opened(path) as store:
        keep(store, messages(10))
    with opened(path, limit=4) as store:
        wait_for(lambda: len(store.found) == 4)
    assert (store.payloads(), store.dropped) == ([b"6", b"7", b"8", b"9"], 6)
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 4)


CHILD = """
import sys, time
from pathlib import Path
from edgepose.mqtt.outbox import Outgoing
from edgepose.storage.event_file import forget_events
from edgepose.storage.event_store import EventStore
store = EventStore(Path(sys.argv[1]), 10_000, lambda messages, dropped: None, lambda topic, payload: Outgoing(topic, payload, qos=1))
store.start()
for number in range(10_000):
    message = Outgoing("t", str(number).encode(), qos=1)
    store.keep(message)
    while not store.holds(message):
        time.sleep(0.0002)
    print(number, flush=True)
"""


def test_nothing_that_was_written_is_lost_by_sigkill(path):
    for _ in range(5):
        path.unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(25):
                child.stdout.readline()
            child.kill()
            written = 25 + len(child.stdout.read().split())
        with opened(path) as store:
            wait_for(store.payloads)
        assert len(store.found) in (written, written + 1)  # the last one may have been on disk before it was said
        assert store.payloads() == [str(number).encode() for number in range(len(store.found))]


def test_a_second_process_goes_without_and_takes_over_when_the_first_is_gone(path, caplog):
    first = Opened(path, 100)
    first.start()
    keep(first, messages(3))
    with opened(path) as second:
        wait_for(lambda: second.failure == "another process has it open")
        own = messages(5)[3:]
        for message in own:
            second.keep(message)
        first.close(10)
        wait_for(lambda: all(map(second.holds, own)))
        wait_for(lambda: second.payloads() == [b"0", b"1", b"2"])
        assert second.failure is None
    assert caplog.text.count("another process has it open; messages are kept in memory until it works") == 1


@pytest.mark.parametrize(("count", "said"), [(1, "1 message that is"), (3, "3 messages that are")])
def test_it_says_how_many_are_still_to_be_sent(path, count, said, caplog):
    caplog.set_level(logging.INFO)
    with opened(path) as store:
        keep(store, messages(count))
    with opened(path) as store:
        wait_for(lambda: store.found)
    assert f"event store {path} holds {said} still to be sent" in caplog.text


@pytest.mark.parametrize("damage", [b"this is no store" * 100, b"SQLite format 3\0" + bytes(range(256)) * 40, b"\0" * 999])
def test_what_is_no_store_is_set_aside_and_a_fresh_one_begun(path, damage, caplog):
    path.write_bytes(damage)
    with opened(path) as store:
        keep(store, messages(3))
        wait_for(lambda: store.failure is None)
        assert store.lost is None
    assert path.with_name("events.db.damaged").read_bytes() == damage
    assert caplog.text.count("is damaged: 0 messages can be read and are sent, and an unknown number of are lost") == 1
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 3)


def test_a_page_gone_bad_costs_the_messages_on_it_and_no_other(path):
    kept = messages(500, size=200)
    with opened(path) as store:
        keep(store, kept)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(4096))
    with opened(path) as store:
        wait_for(lambda: store.found)
        assert 13 <= store.lost <= 25
        assert len(store.found) == 500 - store.lost
        assert set(store.payloads()) < {message.payload for message in kept}
    with opened(path) as store:  # what verified was written anew
        wait_for(lambda: store.found)
        assert (store.lost, len(store.found)) == (0, len(store.payloads()))


def test_a_database_of_somebody_else_is_not_touched(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")
        database.commit()
    before = path.read_bytes()
    with opened(path) as store:
        store.keep(messages(1)[0])
        wait_for(lambda: store.failure == "it is a database of another program; expected a file of edgepose")
    assert path.read_bytes() == before


def test_a_file_that_is_taken_away_is_written_again(path):
    kept = messages(4)
    with opened(path) as store:
        keep(store, kept[:2])
        path.unlink()
        store.keep(kept[2])
        wait_for(lambda: path.exists() and all(map(store.holds, kept[:3])))
        store.keep(kept[3])
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 4)


def test_a_folder_that_comes_later(tmp_path, caplog):
    path = tmp_path / "medium" / "events.db"
    with opened(path) as store:
        kept = messages(2)
        for message in kept:
            store.keep(message)
        wait_for(lambda: store.failure == "no such file or directory")
        path.parent.mkdir()
        wait_for(lambda: all(map(store.holds, kept)))
        wait_for(lambda: store.failure is None)
    assert caplog.text.count("messages are kept in memory until it works") == 1


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_costs_nothing_but_safety_and_is_over_when_there_is_room(small_disk, caplog):
    caplog.set_level(logging.INFO)
    path = small_disk / "events.db"
    kept = messages(60, size=4000)
    with opened(path) as store:
        keep(store, kept[:5])
        ballast = small_disk / "ballast"
        fill(ballast)
        for message in kept[5:]:
            store.keep(message)
        wait_for(lambda: store.failure is not None)
        for message in kept[:40]:
            store.forget(message)
        ballast.unlink()
        wait_for(lambda: all(map(store.holds, kept[40:])))
        wait_for(lambda: store.failure is None)
    assert caplog.text.count("messages are kept in memory until it works") == 1
    assert caplog.text.count("works again") == 1
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 20)
    assert store.payloads() == [message.payload for message in kept[40:]]


def test_the_file_does_not_grow_with_what_has_gone_through_it(path):
    with opened(path) as store:
        for message in messages(3000, size=500):
            store.keep(message)
            if message.payload.strip().endswith(b"00"):
                wait_for(partial(store.holds, message))
            store.forget(message)
        keep(store, messages(1))
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    assert size < 1_000_000


def test_a_store_of_format_1_is_taken_over(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL").fetchall()
        database.execute("CREATE TABLE message (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL)")
        database.execute("PRAGMA application_id=1701081203")
        database.executemany("INSERT INTO message (topic, payload) VALUES ('t', ?)", [(b"1",), (b"2",)])
        database.commit()
        with opened(path) as store:
            wait_for(lambda: store.payloads() == [b"1", b"2"])
            assert store.lost == 0
    assert path.read_bytes().startswith(b"edgepose events 2\n")
    assert [file.name for file in path.parent.iterdir()] == ["events.db"]


def test_what_is_purged_is_neither_in_memory_nor_in_the_file(path):
    kept = messages(20)
    path.with_name("events.db.damaged").write_bytes(b"7")
    with opened(path) as store:
        keep(store, kept)
        store.forget(kept[0])
        assert store.purge(lambda payload: payload in (b"7", b"8"), 30) == 2
        assert not store.holds(kept[7])
        assert [payload for _, payload in recovered(path.read_bytes()).messages.values()] == [
            message.payload for message in kept[1:7] + kept[9:]
        ]
        assert path.read_bytes().count(b"/events") == 17
        assert not path.with_name("events.db.damaged").exists()
        assert store.purge(lambda _: False, 30, always=False) == 0
    with opened(path) as store:
        wait_for(lambda: len(store.found) == 17)


def test_a_file_without_a_process_is_purged_too(path):
    with opened(path) as store:
        keep(store, messages(5))
        with pytest.raises(BlockingIOError):
            forget_events(path, lambda payload: payload == b"2")
    assert forget_events(path, lambda payload: payload == b"2") == 1
    with opened(path) as store:
        wait_for(lambda: store.payloads() == [b"0", b"1", b"3", b"4"])
