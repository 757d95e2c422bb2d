import threading

import pytest

from edgepose.mqtt.outbox import Outbox, Outgoing, RetainedState


def message(topic: str, payload: bytes = b"", *, expires_at_s: float | None = None, qos: int = 0, retained: bool = False) -> Outgoing:
    return Outgoing(topic, payload, qos=qos, retained=retained, expires_at_s=expires_at_s)


def drained(outbox, now_s=0.0, **how):
    taken = []
    while (taken_now := outbox.pop(now_s, **how)) is not None:
        taken.append((taken_now.address if isinstance(taken_now, RetainedState) else taken_now.topic, taken_now.payload))
    return taken


@pytest.fixture
def outbox():
    outbox = Outbox(queue_limit=3, topic_limit=3)
    outbox.connected()
    return outbox


def test_the_newest_of_a_topic_wins_and_the_others_are_counted(outbox):
    for payload in (b"1", b"2", b"3"):
        outbox.put_latest(message("a", payload))
    outbox.put_latest(message("b", b"1"))
    assert drained(outbox) == [("a", b"3"), ("b", b"1")]
    assert outbox.stats().drops == {"superseded": 2}


def test_busy_topics_take_turns(outbox):
    outbox.put_latest(message("a", b"1"))
    outbox.put_latest(message("b", b"1"))
    assert outbox.pop(0).topic == "a"
    outbox.put_latest(message("a", b"2"))
    assert drained(outbox) == [("b", b"1"), ("a", b"2")]


def test_what_a_slow_broker_costs_has_its_own_name(outbox):
    outbox.blocked(True)
    outbox.put_latest(message("a"))
    outbox.put_latest(message("a"))
    outbox.blocked(False)
    outbox.put_latest(message("a"))
    assert outbox.stats().drops == {"backlog": 1, "superseded": 1}


def test_old_news_is_not_sent(outbox):
    outbox.put_latest(message("a", expires_at_s=2.0))
    outbox.put_latest(message("b", expires_at_s=2.1))
    assert drained(outbox, now_s=2.0) == [("b", b"")]
    assert outbox.stats().drops == {"expired": 1}


def test_without_a_connection_only_states_and_the_queue_are_kept():
    outbox = Outbox()
    outbox.put_latest(message("poses"))
    outbox.put_retained("status", b"1")
    outbox.put_retained("status", b"2")
    outbox.put_queued(message("events", b"1"))
    outbox.connected()
    outbox.put_latest(message("poses"))
    outbox.disconnected()
    outbox.connected()
    assert drained(outbox) == [("status", b"2"), ("events", b"1")]
    assert outbox.stats().drops == {"no_connection": 2}


def test_states_are_said_again_after_each_connection(outbox):
    outbox.put_retained("status", b"1")
    assert drained(outbox) == [("status", b"1")]
    assert not outbox.pending()
    outbox.disconnected()
    outbox.connected()
    assert drained(outbox) == [("status", b"1")]
    assert outbox.stats().drops == {}


def test_a_full_queue_loses_its_oldest(outbox):
    for number in range(5):
        outbox.put_queued(message("events", str(number).encode()))
    assert [payload for _, payload in drained(outbox)] == [b"2", b"3", b"4"]
    assert outbox.stats().drops == {"queue_full": 2}


def test_a_queue_of_long_messages_is_bounded_by_its_bytes():
    outbox = Outbox(queue_limit=100, queue_bytes=1000)
    for number in range(5):
        outbox.put_queued(message("reply", bytes([number]) * 400))
    outbox.put_queued(message("picture", bytes(5000)))
    assert [len(payload) for _, payload in drained(outbox)] == [5000]
    assert outbox.stats().drops == {"queue_full": 5}
    outbox.put_queued(message("reply", bytes(400)))
    assert outbox.pending()


def test_queued_messages_can_become_old_too(outbox):
    outbox.put_queued(message("reply", b"1", expires_at_s=2.0))
    outbox.put_queued(message("reply", b"2"))
    assert drained(outbox, now_s=2.0) == [("reply", b"2")]
    assert outbox.stats().drops == {"expired": 1}


def test_a_message_waits_until_it_is_settled_and_then_is_forgotten():
    forgotten: list[Outgoing] = []
    outbox = Outbox(queue_limit=3, forget=forgotten.append)
    left, new, refused, surplus = (message("events", payload) for payload in (b"left", b"new", b"refused", b"surplus"))
    outbox.put_queued(new)
    outbox.restore([left])
    outbox.put_queued(refused)
    assert (outbox.stats().waiting, outbox.pop(0)) == (3, left)
    assert outbox.stats().waiting == 3
    outbox.put_queued(surplus)
    outbox.put_back([left])
    assert (outbox.stats().waiting, forgotten, outbox.stats().drops) == (3, [left], {"queue_full": 1})
    assert outbox.pop(0) is new
    outbox.settle(new)
    assert outbox.pop(0) is refused
    outbox.settle(refused, lost="refused_by_broker")
    outbox.settle(message("status", retained=True), lost="refused_by_broker")
    assert (outbox.stats().waiting, forgotten) == (1, [left, new, refused])
    outbox.close()
    outbox.abandon(lambda message: message is surplus)
    assert (outbox.stats().waiting, outbox.stats().drops) == (1, {"queue_full": 1, "refused_by_broker": 2})


def test_unacknowledged_messages_go_first(outbox):
    outbox.put_queued(message("events", b"3"))
    outbox.put_back([message("events", b"1"), message("events", b"2")])
    assert [payload for _, payload in drained(outbox)] == [b"1", b"2", b"3"]


def test_messages_with_acknowledgement_wait_for_room_and_poses_do_not(outbox):
    outbox.put_retained("status", b"")
    outbox.put_queued(message("events", qos=1))
    assert not outbox.pending(acknowledged=False)
    outbox.put_latest(message("poses"))
    assert outbox.pending(acknowledged=False)
    assert drained(outbox, acknowledged=False) == [("poses", b"")]
    assert drained(outbox) == [("status", b""), ("events", b"")]


def test_names_made_up_at_run_time_cannot_fill_the_memory(outbox):
    for number in range(10):
        outbox.put_latest(message(str(number)))
        outbox.put_retained(str(number), b"")
    assert len(drained(outbox)) == 6
    assert outbox.stats().drops == {"queue_full": 14}


def test_after_closing_only_states_get_in(outbox):
    outbox.put_latest(message("poses"))
    outbox.put_queued(message("events"))
    outbox.close()
    outbox.put_latest(message("poses"))
    outbox.put_queued(message("events"))
    outbox.put_retained("status", b"stopped")
    outbox.connected()
    assert drained(outbox) == [("status", b"stopped"), ("events", b"")]
    outbox.put_back([message("events")])
    outbox.abandon()
    assert outbox.stats().drops == {"stopped": 4}
    assert not outbox.pending()


def test_nothing_is_lost_uncounted_between_threads(outbox):
    sent, threads = 2000, 4
    over = threading.Event()
    taken = []

    def consume():
        while not over.is_set() or outbox.pending():
            taken.extend(drained(outbox))

    consumer = threading.Thread(target=consume)
    consumer.start()
    producers = [threading.Thread(target=lambda: [outbox.put_latest(message("a")) for _ in range(sent)]) for _ in range(threads)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    over.set()
    consumer.join()
    assert len(taken) + outbox.stats().drops.get("superseded", 0) == sent * threads
