"""Bit flips in a file of the event store: what verifies must be sent, everything else be counted, and no thread may end."""

import random
import threading
from collections import Counter
from pathlib import Path

from edgepose.mqtt.outbox import Outgoing
from edgepose.storage.event_store import EventStore
from testing.waiting import wait_for

MESSAGES, SETTLED = 40, 15


def _made(topic: str, payload: bytes) -> Outgoing:
    return Outgoing(topic, payload, qos=1)


class _Found:
    """What a store found in its file."""

    def __init__(self, path: Path) -> None:
        self.messages: list[Outgoing] = []
        self.store = EventStore(path, 1000, self._take, _made)

    def _take(self, messages: list[Outgoing], dropped: int) -> None:
        self.messages += messages


def written_store(path: Path) -> list[bytes]:
    """Write a store of which some messages are settled, and return the payloads of the others."""
    found = _Found(path)
    found.store.start()
    messages = [_made("edgepose/drone/cameras/front/events", b'{"id":"%d","kind":"entered"}' % number) for number in range(MESSAGES)]
    for message in messages:
        found.store.keep(message)
    wait_for(lambda: all(map(found.store.holds, messages)))
    for message in messages[:SETTLED]:
        found.store.forget(message)
    found.store.close(60)
    return [message.payload for message in messages[SETTLED:]]


def flip_bits(folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Flip one bit after the other, open the store each time, and check what it sends and counts; return how often each outcome came.

    Args:
        folder: takes the files.
        count: number of flips, at random places.
        seed: of the places.

    Raises:
        AssertionError: a message that verifies was not sent, another was not counted, or the thread ended.
    """
    path = folder / "events.db"
    waiting = written_store(path)
    pristine, draw, outcomes = path.read_bytes(), random.Random(seed), Counter[str]()
    for _ in range(count):
        place = draw.randrange(8 * len(pristine))
        data = bytearray(pristine)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        found = _Found(path)
        found.store.start()
        assert found.store.loaded.wait(60), f"bit {place}: not loaded"
        assert found.store._thread.is_alive(), f"bit {place}: the thread has ended"
        new = _made("t", b"new")
        found.store.keep(new)
        found.store.close(60)
        assert found.store.holds(new), f"bit {place}: nothing can be written any more: {found.store.failure}"
        sent, lost = [message.payload for message in found.messages], found.store.lost
        unsettled = [payload for payload in sent if payload not in waiting]  # a lost record of settled ones: sent once more
        sent = [payload for payload in sent if payload in waiting]
        assert sent == [payload for payload in waiting if payload in sent], f"bit {place}: not in order"
        assert len(unsettled) in (0, SETTLED), f"bit {place}: altered messages were sent"
        assert lost is None or len(sent) + lost == len(waiting) + (lost if unsettled else 0), f"bit {place}: {len(sent)} sent, {lost} lost"
        assert len(waiting) - len(sent) <= 1, f"bit {place}: more than one message was lost"
        outcomes["lost: unknown" if lost is None else f"lost: {lost}"] += 1
    assert threading.active_count() < 50
    return outcomes
