"""Real HTTP, kind and unkind."""

import http.client
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.telemetry import http_server as local_server
from edgepose.telemetry.http_server import CONNECTIONS_LIMIT, Answer, LocalHttpServer
from testing.waiting import wait_for


def broken(accept: str) -> Answer:
    raise ValueError("no idea")


_older: set[threading.Thread] = set()  # of servers of other tests


@pytest.fixture
def server() -> Iterator[LocalHttpServer]:
    _older.update(threading.enumerate())
    pages = {"/hello": lambda accept: Answer(200, "text/plain", f"hello {accept}".encode()), "/broken": broken}
    started = LocalHttpServer("127.0.0.1", 0, pages)
    started.start()
    yield started
    started.stop()
    wait_for(lambda: threads() == 0)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(), response
    finally:
        connection.close()


def threads() -> int:
    """Threads of requests."""
    return sum("process_request_thread" in thread.name for thread in set(threading.enumerate()) - _older)


def test_a_page_is_asked_for_by_path_and_told_what_the_caller_accepts(server: LocalHttpServer) -> None:
    status, body, response = ask(server.port, "/hello?x=1", Accept="text/x")
    assert (status, body) == (200, b"hello text/x")
    assert (response.headers["Server"], response.headers["Content-Type"]) == ("edgepose", "text/plain")


def test_head_says_how_much_there_would_be(server: LocalHttpServer) -> None:
    status, body, response = ask(server.port, "/hello", "HEAD")
    assert (status, body, response.headers["Content-Length"]) == (200, b"", "6")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server: LocalHttpServer, method: str) -> None:
    status, _, response = ask(server.port, "/hello", method)
    assert (status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_what_is_not_there_is_said_with_what_is(server: LocalHttpServer) -> None:
    status, body, _ = ask(server.port, "/passwd")
    assert (status, body) == (404, b"/passwd does not exist; expected /hello, /broken\n")


def test_a_page_that_fails_costs_one_answer_and_one_line(server: LocalHttpServer, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(server.port, "/broken")[0] == 500
    assert [record.getMessage() for record in caplog.records] == ["/broken cannot be written: ValueError: no idea"]
    assert ask(server.port, "/hello")[0] == 200


@pytest.mark.parametrize(
    "request_", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"]
)
def test_nonsense_is_refused_in_plain_text(server: LocalHttpServer, request_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                answer += more
        except TimeoutError:
            raise
        except OSError:
            pass  # it had not read everything when it closed
    assert b"<html" not in answer.lower()
    assert ask(server.port, "/hello")[0] == 200


def test_no_bytes_bring_it_down(server: LocalHttpServer) -> None:
    pieces = st.sampled_from(
        [b"GET ", b"HEAD ", b"/hello", b" HTTP/1.1\r\n", b"\r\n", b"Accept: ", b"Expect: 100-continue\r\n", b"\n", b":"]
    )

    @settings(max_examples=300, deadline=None)
    @given(st.lists(pieces | st.binary(max_size=20), max_size=12).map(b"".join))
    def send(request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except TimeoutError:
                raise
            except OSError:
                pass  # it had not read everything when it closed

    send()
    assert ask(server.port, "/hello")[0] == 200
    wait_for(lambda: threads() == 0)


def test_whoever_goes_away_leaves_no_trace(server: LocalHttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        socket.create_connection(("127.0.0.1", server.port), timeout=10).close()
    wait_for(lambda: threads() == 0)
    assert ask(server.port, "/hello")[0] == 200
    assert capfd.readouterr().err == ""


def test_the_slow_hold_few_threads_and_make_way(server: LocalHttpServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(5 * CONNECTIONS_LIMIT)]
    try:
        for connection in slow:
            connection.sendall(b"GET /hello HTTP/1.1\r\nX: ")
        seen = 0
        for _ in range(20):
            assert ask(server.port, "/hello")[0] == 200
            seen = max(seen, threads())
        assert 0 < seen <= CONNECTIONS_LIMIT
    finally:
        for connection in slow:
            connection.close()


def test_a_caller_who_drips_is_cut_off_at_the_deadline(server: LocalHttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "DEADLINE_S", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        began_s = time.monotonic()
        connection.sendall(b"GET /hello HTTP/1.1\r\n")

        def cut_off() -> bool:
            try:
                connection.sendall(b"X")  # never silent for long: a time-out of each read would not end this
                connection.settimeout(0.05)
                return connection.recv(100) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_for(cut_off, promised_s=8, every_s=0.05)
        assert time.monotonic() - began_s >= 0.5
    wait_for(lambda: threads() == 0)


def test_a_caller_who_does_not_read_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "DEADLINE_S", 0.5)
    server = LocalHttpServer("127.0.0.1", 0, {"/big": lambda accept: Answer(200, "text/plain", b"x" * 50_000_000)})
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"GET /big HTTP/1.1\r\n\r\n")
            wait_for(lambda: threads() == 1)
            wait_for(lambda: threads() == 0)
    finally:
        server.stop()


def test_without_descriptors_it_waits_instead_of_spinning(server: LocalHttpServer) -> None:
    """In the loop of serving a connection that cannot be accepted stays ready: tried again at once it would take a whole core."""
    tries: list[float] = []
    real = server.get_request

    def counted() -> tuple[socket.socket, Any]:
        tries.append(time.monotonic())
        return real()

    server.get_request = counted  # type: ignore[method-assign]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    caller = socket.socket()
    probe = socket.socket()
    lowest = probe.fileno()
    probe.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # nothing above can be opened
    try:
        caller.settimeout(10)
        caller.connect(("127.0.0.1", server.port))
        caller.sendall(b"GET /hello HTTP/1.1\r\n\r\n")
        wait_for(lambda: len(tries) >= 5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert tries[4] - tries[0] >= 0.3
    assert caller.recv(15) == b"HTTP/1.0 200 OK"
    caller.close()


def test_a_port_in_use_is_refused_at_once(server: LocalHttpServer) -> None:
    with pytest.raises(OSError, match="in use"):
        LocalHttpServer("127.0.0.1", server.port, {})


def test_ipv6() -> None:
    try:
        started = LocalHttpServer("::1", 0, {"/": lambda accept: Answer(200, "text/plain", b"six")})
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    started.start()
    connection = http.client.HTTPConnection("::1", started.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"six"
    connection.close()
    started.stop()
