"""What is newest goes out at once on a fast path, and waits for its turn, and for newer, on a slow one."""

import socket
from collections import deque

import pytest

from edgepose.mqtt.flow_control import PingProbe, SendWindow, SocketTraffic
from testing.waiting import wait_for

_STEP_S = 0.005


def _drive(bytes_per_s: float, trip_s: float, size: int, per_s: float, seconds: float = 20.0) -> tuple[float, float, float]:
    """Messages over a path of one speed.

    Returns:
        The share that was handed over once ten seconds have passed; the longest way of one in seconds, and of one after the first second.
    """
    pace, now_s = SendWindow(), 0.0
    on_way: deque[tuple[float, float, int]] = deque()  # when its last byte is over, when it was handed over, size
    free_s = acknowledged = 0.0
    offered = handed = 0
    longest_s = later_s = 0.0
    due_s, waiting = 0.0, False
    while now_s < seconds:
        while on_way and on_way[0][0] + trip_s <= now_s:
            acknowledged += on_way.popleft()[2]
        if now_s >= due_s:
            due_s += 1 / per_s
            offered += now_s > 10
            waiting = True
        outstanding = sum(size for _, _, size in on_way)
        if waiting and pace.room(outstanding, int(acknowledged), trip_s, now_s):
            free_s = max(free_s, now_s) + size / bytes_per_s
            on_way.append((free_s, now_s, size))
            longest_s = max(longest_s, free_s - now_s)
            later_s = max(later_s, free_s - now_s) if now_s > 1 else later_s
            waiting = False
            handed += now_s > 10
        now_s += _STEP_S
    return handed / offered, longest_s, later_s


@pytest.mark.parametrize("trip_s", [0.001, 0.02, 0.15, 0.6])
def test_a_path_that_is_fast_enough_takes_everything(trip_s):
    share, longest_s, _ = _drive(1e6, trip_s, size=1500, per_s=120)
    assert share == 1
    assert longest_s < 0.01


@pytest.mark.parametrize("bytes_per_s", [8000, 2000])
def test_on_a_slow_path_nothing_gets_old_and_the_path_is_used(bytes_per_s):
    share, longest_s, later_s = _drive(bytes_per_s, 0.02, size=1200, per_s=30)
    assert longest_s < 1.5
    assert later_s < 1.2  # 0.5 s of 2000 bytes/s before it, and its own 0.6 s
    assert share * 30 * 1200 > 0.8 * bytes_per_s


def test_a_path_that_becomes_slow_is_found_out():
    pace = SendWindow()
    for turn in range(100):
        assert pace.room(300, turn * 300, 0.001, turn / 100)
    assert pace.room(5000, 29_700, 0.001, 1.0)
    assert not pace.room(5000, 29_700, 0.001, 1.2)
    assert pace.room(1000, 29_700, 0.001, 1.2)


def test_what_was_taken_long_ago_says_little():
    pace = SendWindow()
    assert pace.room(0, 0, 0.001, 0.0)
    assert not pace.room(20_000, 20_000, 0.001, 10.0)


def test_a_broker_that_answers_has_room_and_is_asked_ten_times_a_second():
    echo, questions = PingProbe(), 0
    for turn in range(300):  # 30 messages a second, answers after 20 ms
        now_s = turn / 30
        assert echo.room(now_s)
        if echo.due(now_s):
            echo.asked(now_s)
            questions += 1
            echo.answered(now_s + 0.02)
    assert 70 <= questions <= 100


def test_a_broker_that_answers_no_more_has_no_room_soon_and_is_asked_only_once():
    echo = PingProbe()
    echo.asked(0.0)
    echo.answered(0.02)
    assert not echo.due(0.1)
    assert echo.due(0.2)
    echo.asked(0.2)
    assert echo.room(0.45)
    assert not echo.room(0.5)
    assert not echo.due(9.0)
    assert not echo.room(9.0)
    echo.answered(9.5)
    assert echo.room(9.5)


def test_a_slow_answer_is_none_that_is_late():
    echo = PingProbe()
    for turn in range(10):
        echo.asked(turn)
        assert echo.room(turn + 0.7)
        echo.answered(turn + 0.7)
    echo.asked(20.0)
    assert echo.room(20.9)
    assert not echo.room(21.0)


def test_an_answer_that_nobody_asked_for_says_nothing():
    echo = PingProbe()
    echo.answered(5.0)
    assert echo.due(5.0)
    echo.asked(6.0)
    assert echo.room(6.9)


def test_a_socket_whose_far_side_does_not_read_has_no_room_until_it_does():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with socket.create_connection(server.getsockname()) as client:
            far, _ = server.accept()
            with far:
                traffic = SocketTraffic(client)
                assert traffic.room()
                client.setblocking(False)
                sent = client.send(bytes(100_000))
                wait_for(lambda: not traffic.room())
                got = 0
                far.settimeout(5)
                while got < sent:
                    got += len(far.recv(65536))
                wait_for(traffic.room)


def test_a_socket_that_is_no_tcp_has_room():
    left, right = socket.socketpair()
    with left, right:
        left.send(b"x" * 50_000)
        assert SocketTraffic(left).room()
