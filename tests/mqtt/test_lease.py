"""What one session may do with the outbox, and what it may no longer do after another has taken its place."""

import pytest

from edgepose.mqtt.lease import OutboxLease
from edgepose.mqtt.outbox import Outbox, Outgoing


def encoded(prefix: str):
    return lambda state: Outgoing(f"{prefix}/{state.address}", state.payload, qos=1, retained=True)


def event(payload: bytes) -> Outgoing:
    return Outgoing("events", payload, qos=1)


def drained(lease: OutboxLease, **how: bool) -> list[tuple[str, bytes]]:
    taken = []
    while (message := lease.pop(0.0, **{"acknowledged": True, "latest": True, **how})) is not None:
        taken.append((message.topic, message.payload))
    return taken


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


def test_a_session_says_its_own_state_first_and_encodes_the_others_its_own_way(outbox: Outbox) -> None:
    outbox.put_retained("info", b"info")
    lease = OutboxLease(outbox, encoded("a"))
    lease.send_first(Outgoing("a/status", b"online", qos=1, retained=True))
    lease.connected()
    outbox.put_queued(event(b"1"))
    assert lease.pending()
    assert not lease.pending(acknowledged=False)
    assert drained(lease, acknowledged=False) == []
    assert drained(lease) == [("a/status", b"online"), ("a/info", b"info"), ("events", b"1")]
    lease.revoke()
    second = OutboxLease(outbox, encoded("b"))
    second.connected()
    assert drained(second) == [("b/info", b"info"), ("events", b"1")]


def test_what_was_taken_and_not_settled_goes_back_in_order(outbox: Outbox) -> None:
    lease = OutboxLease(outbox, encoded("a"))
    lease.connected()
    messages = [event(bytes([number])) for number in range(4)]
    for message in messages:
        outbox.put_queued(message)
    for _ in range(3):
        lease.pop(0.0, acknowledged=True, latest=True)
    lease.settle(messages[1])
    lease.revoke()
    assert outbox.queued() == [messages[0], messages[2], messages[3]]
    assert (outbox.stats().waiting, outbox.stats().drops) == (3, {})


def test_a_hung_session_that_wakes_finds_its_lease_revoked(outbox: Outbox) -> None:
    forgotten: list[Outgoing] = []
    outbox = Outbox(forget=forgotten.append)
    lease = OutboxLease(outbox, encoded("a"))
    lease.connected()
    outbox.put_queued(first := event(b"1"))
    assert lease.pop(0.0, acknowledged=True, latest=True) is first
    lease.revoke()
    second = OutboxLease(outbox, encoded("a"))
    second.connected()
    outbox.put_latest(Outgoing("poses", b"2"))
    before = outbox.stats()
    lease.send_first(Outgoing("a/status", b"stopped", qos=1, retained=True))
    assert drained(lease) == []
    assert not lease.pending()
    lease.settle(first)
    lease.settle(first, lost="refused_by_broker")
    lease.count_sent()
    lease.connected()
    lease.blocked(True)
    lease.disconnected(unwritten=7)
    lease.revoke()
    assert outbox.stats() == before
    assert forgotten == []
    assert drained(second) == [("events", b"1"), ("poses", b"2")]


def test_only_a_second_connection_of_a_session_is_a_reconnect(outbox: Outbox) -> None:
    for _ in range(2):
        lease = OutboxLease(outbox, encoded("a"))
        lease.connected()
        lease.revoke()
    assert outbox.stats().reconnects == 0
    lease = OutboxLease(outbox, encoded("a"))
    lease.connected()
    lease.disconnected(unwritten=1)
    lease.connected()
    assert (outbox.stats().reconnects, outbox.stats().drops) == (1, {"connection_lost": 1})


def test_a_state_that_is_not_set_yet_is_not_taken_for_one_of_somebody_else(outbox: Outbox) -> None:
    lease = OutboxLease(outbox, encoded("a"), {"cameras/front/status"})
    lease.connected()
    assert not lease.clear_unknown("cameras/front/status")
    assert lease.clear_unknown("cameras/gone/status")
    assert drained(lease) == [("a/cameras/gone/status", b"")]


def test_a_cleared_state_is_said_until_it_is_sent_and_by_no_later_session(outbox: Outbox) -> None:
    outbox.put_retained("cameras/a/status", b"")
    outbox.drop_cleared()
    lease = OutboxLease(outbox, encoded("a"))
    lease.connected()
    assert drained(lease) == [("a/cameras/a/status", b"")]
    lease.revoke()
    outbox.drop_cleared()
    lease = OutboxLease(outbox, encoded("a"))
    lease.connected()
    assert drained(lease) == []
