"""What strangers sent to the monitoring port: any header, endless ones, no token."""

import http.client
import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepose.config.load import load
from edgepose.config.schema import MonitoringConfig
from edgepose.daemon.health import DaemonSnapshot
from edgepose.daemon.monitoring import MonitoringServer, Readiness
from edgepose.daemon.prometheus import metrics_page
from edgepose.errors import ConfigError
from edgepose.telemetry.http_server import HEAD_LIMIT_BYTES
from testing.servers.certificates import Authority
from testing.waiting import wait_for

TOKEN = "0123456789abcdef0123456789abcdef"

OPENMETRICS, PLAIN = "application/openmetrics-text", "text/plain"


@contextmanager
def monitoring(settings: MonitoringConfig) -> Iterator[MonitoringServer]:
    ready = Readiness(live=True, ready=True, missing=[])
    server = MonitoringServer(settings, lambda accept: metrics_page(DaemonSnapshot(), accept), lambda: ready)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with monitoring(MonitoringConfig(port=0)) as server:
        yield server.port


def send(port: int, request: bytes) -> bytes:
    """Return all that the port answers to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"; q=0.5', OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OPENMETRICS,
        ),
        ("text/plain;q=1,application/openmetrics-text;q=0.5", PLAIN),
        ("application/openmetrics-text; version=x", PLAIN),
        ("application/openmetrics-text; version=1.x.0", PLAIN),
        ("application/openmetrics-text; version=9.0.0", PLAIN),
        ("application/openmetrics-text; version", OPENMETRICS),
        ("application/openmetrics-text; version==1.0.0", PLAIN),
        ("application/openmetrics-text; escaping=\u00ff", OPENMETRICS),
        ("application/openmetrics-text; q=nan", PLAIN),
        ("application/openmetrics-text; q=1e400", PLAIN),
        ("text/plain; version=x, application/openmetrics-text;q=0", PLAIN),
        ("," * 8000, PLAIN),
        (";" * 8000, PLAIN),
    ],
)
def test_any_accept_header_gets_a_page(port: int, accept: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    answer = send(port, f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode("latin-1"))
    assert answer.startswith(b"HTTP/1.0 200 ")
    assert f"\r\nContent-Type: {kind};".encode() in answer
    assert caplog.records == []


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /\x1b[2J\x07\x9b31m HTTP/1.1\r\n\r\n", 404),
        (b"GET /%1b[2J?\x1b]0;owned\x07 HTTP/1.1\r\n\r\n", 404),
        (b"\x1b[31mGET / HTTP/1.1\r\n\r\n", 501),
        (b"GET / HTTP/\x1b[31m\r\n\r\n", 400),
        (b"GET / \x1b[31m HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\x1b[1A forged HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_no_escape_of_a_caller_reaches_log_or_answer(port: int, request_: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="edgepose")
    answer = send(port, request_)
    assert answer.startswith(f"HTTP/1.0 {status} ".encode())
    assert b"\x1b" not in answer
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * (HEAD_LIMIT_BYTES // 2) + b"\r\n\r\n", 200),
        (b"GET /" + b"a" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nX: " + b"a" * HEAD_LIMIT_BYTES + b"\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + (b"X: " + b"a" * 65000 + b"\r\n") * 99 + b"\r\n", 431),  # 6.4 MB
    ],
    ids=["much", "line", "header", "headers", "6.4 MB"],
)
def test_headers_are_bounded(port: int, request_: bytes, status: int) -> None:
    assert send(port, request_).startswith(f"HTTP/1.0 {status} ".encode())


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_a_crowd_with_endless_headers_costs_little_memory(port: int) -> None:
    before_kb = resident_kb()
    crowd = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(8)]
    try:
        for caller in crowd:
            caller.sendall(b"GET /livez HTTP/1.1\r\n" + b"X: " + b"a" * (HEAD_LIMIT_BYTES - 100))
        assert resident_kb() - before_kb < 20_000
    finally:
        for caller in crowd:
            caller.close()
    wait_for(lambda: send(port, b"GET /livez HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 200 "))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "drone.local", "127.1", "::ffff:192.0.2.7"])
@pytest.mark.parametrize("lacking", [("certificate_file", "key_file"), ("token_file",), ("certificate_file", "key_file", "token_file")])
def test_an_address_that_others_reach_wants_tls_and_a_token(host: str, lacking: tuple[str, ...]) -> None:
    given = {"certificate_file", "key_file", "token_file"} - set(lacking)
    settings = [f"monitoring.host={host}", "monitoring.enabled=true", *(f"monitoring.{key}=/x" for key in given)]
    missing = " and ".join(f"monitoring.{key}" for key in lacking)
    with pytest.raises(ConfigError, match=rf"monitoring\.host is {host}, which other machines can reach, without {missing}; expected TLS"):
        load(settings=settings, environment={})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "::ffff:127.0.0.1"])
def test_the_loopback_address_needs_neither(host: str) -> None:
    assert load(settings=[f"monitoring.host={host}", "monitoring.enabled=true"], environment={}).monitoring.host == host


def test_the_port_speaks_tls_and_wants_the_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("drone", host="localhost")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    settings = MonitoringConfig(
        host="0.0.0.0", port=0, certificate_file=str(certificate), key_file=str(key), token_file=str(tmp_path / "token")
    )

    def ask(authorization: str | None, path: str = "/metrics", authority_file: Path = authority.certificate) -> int:
        context = ssl.create_default_context(cafile=str(authority_file))
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=60, context=context)
        try:
            connection.request("GET", path, headers={} if authorization is None else {"Authorization": authorization})
            response = connection.getresponse()
            body = response.read()
            if response.status == 401:
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert b"edgepose_" not in body
            return response.status
        finally:
            connection.close()

    with monitoring(settings) as server:
        assert ask(f"Bearer {TOKEN}") == 200
        assert ask(f"bearer  {TOKEN}", "/livez") == 200
        for wrong in (None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer \u00ff"):
            assert ask(wrong) == 401
            assert ask(wrong, "/healthz/live") == 401
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(f"Bearer {TOKEN}", authority_file=Authority(tmp_path, "other").certificate)
        assert b"200" not in send(server.port, b"GET /metrics HTTP/1.1\r\n\r\n")  # no TLS
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(8)]  # no handshake, ever
        assert ask(f"Bearer {TOKEN}", "/readyz") == 200
        for each in silent:
            each.close()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is no token"), (b"short\n", "16 or more"), (b"with spaces in between\n", "is no token"), (b"\xff" * 32, "it is not text")],
)
def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "token").write_bytes(content)
    with (
        pytest.raises(ConfigError, match=reason),
        monitoring(MonitoringConfig(port=0, token_file=str(tmp_path / "token"))),
    ):
        pass


def test_a_certificate_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    for key in ("x.pem", "absent.pem"):
        settings = MonitoringConfig(port=0, certificate_file=str(tmp_path / "x.pem"), key_file=str(tmp_path / key))
        with pytest.raises(ConfigError, match=r"certificate_file .* cannot be used: .*; expected a certificate"), monitoring(settings):
            pass
