"""A small HTTP server: GET and HEAD only, few threads, a deadline for every connection, and on demand TLS and a token.

Callers that open connections and send nothing, or send byte by byte, cost at most `CONNECTIONS_LIMIT` threads: a new caller replaces the
oldest one, and after `DEADLINE_S` every connection is cut off. A request holds at most `HEAD_LIMIT_BYTES`.
"""

import hmac
import http.client
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

from edgepose.printable import printable

_log = logging.getLogger(__name__)

CONNECTIONS_LIMIT = 8
"""Maximum number of connections, and threads, at the same time."""

DEADLINE_S = 5.0
"""Longest duration of a connection, from its first byte to the last of the answer."""

HEAD_LIMIT_BYTES = 16 * 1024
"""Longest request line and headers together (http.client counts them too, and takes 100 at most)."""

_TURN_S = 0.25
_SHOWN = 100  # characters of a caller's text that a log line or an answer repeats
_LEFTOVER_LIMIT_BYTES = 16 * 1024 * 1024
_GIVE_WAY_S = 0.25  # how long a connection that was cut off may take to release its slot
_NO_DESCRIPTORS_S = 0.1  # without a pause, a connection that cannot be accepted would be retried in a busy loop


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a caller; `content_type` as in HTTP."""

    status: int
    content_type: str
    body: bytes


Page = Callable[[str], Answer]
"""Returns the answer to a request, given its `Accept` header ("" where there is none)."""


class LocalHttpServer(ThreadingHTTPServer):
    """A server of pages by path, in a thread of its own."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(
        self, host: str, port: int, pages: Mapping[str, Page], *, tls: ssl.SSLContext | None = None, token: str | None = None
    ) -> None:
        """
        Args:
            host: address to listen on.
            port: 0 takes any free one.
            pages: by path, such as `/metrics`.
            tls: with the server's certificate; None serves without encryption.
            token: what callers must send (`Authorization: Bearer TOKEN`, RFC 6750); None answers everyone.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.pages = dict(pages)
        self._tls = tls
        self._token = token
        self._connection_slots = threading.BoundedSemaphore(CONNECTIONS_LIMIT)
        self._lock = threading.Lock()
        self._since_s: dict[socket.socket, float] = {}  # open connections, the oldest first
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": _TURN_S}, name="monitoring", daemon=True)

    def server_bind(self) -> None:
        """Bind without resolving the host's own name, which `HTTPServer` does and which may take minutes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def host(self) -> str:
        """The address that the server listens on."""
        return str(self.server_address[0])

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Start answering requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop immediately; callers that wait for an answer are cut off."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()
        with self._lock:
            for connection in self._since_s:
                _cut_off(connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its TLS handshake happens in its own thread."""
        try:
            connection, address = super().get_request()
        except OSError:
            time.sleep(_NO_DESCRIPTORS_S)
            raise
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def admits(self, authorization: str) -> bool:
        """Return whether a caller with this `Authorization` header may see the pages."""
        if self._token is None:
            return True
        scheme, _, token = authorization.strip().partition(" ")
        # Compared in constant time, so that the duration tells nothing about the token.
        return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token.encode())

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, which replaces the oldest connection where there are too many."""
        if not self._connection_slots.acquire(blocking=False):
            with self._lock:
                oldest = next(iter(self._since_s), None)
                if oldest is not None:
                    _cut_off(oldest)
            if not self._connection_slots.acquire(timeout=_GIVE_WAY_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._since_s[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Run in a connection's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def service_actions(self) -> None:
        """Cut off connections that are over the deadline; called several times a second."""
        too_old_s = time.monotonic() - DEADLINE_S
        with self._lock:
            for connection, since_s in self._since_s.items():
                if since_s <= too_old_s:
                    _cut_off(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a failed request at debug level only: usually the caller has left."""
        _log.debug("a request was not answered completely", exc_info=True)

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._since_s.pop(request, None)
        self._connection_slots.release()


def _cut_off(connection: socket.socket) -> None:
    with suppress(OSError):  # it is already closed
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # wakes the thread that reads or writes it, under TLS too


class _BoundedReader:
    """A reader of a request's lines that refuses more than `HEAD_LIMIT_BYTES` in all."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._left = HEAD_LIMIT_BYTES

    def readline(self, limit: int = -1) -> bytes:
        """Return the next line; http.client.LineTooLong where the request is too long."""
        most = self._left + 1 if limit < 0 else min(limit, self._left + 1)
        line = self._inner.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong(f"more than {HEAD_LIMIT_BYTES} bytes of request")
        return line

    def close(self) -> None:
        self._inner.close()


class _Handler(BaseHTTPRequestHandler):
    """The handler of one request; each connection carries one."""

    server: LocalHttpServer
    default_request_version = "HTTP/1.0"  # with the default, 0.9, errors would have no status
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    refused = False

    def setup(self) -> None:
        """Complete the TLS handshake, if any, and bound what is read."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()
        self.rfile = _BoundedReader(self.rfile)  # type: ignore[assignment, arg-type]

    def handle_one_request(self) -> None:
        """Answer one request; a request that is too long gets 414 or 431."""
        self.requestline = self.request_version = self.command = ""
        try:
            super().handle_one_request()
        except http.client.LineTooLong as error:  # the request line; http.server itself answers where it is a header
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG, str(error))

    def finish(self) -> None:
        """End the connection; what the caller still sends is read and dropped, or the answer could be lost with the connection."""
        super().finish()
        if not self.refused:
            return
        with suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            dropped = 0
            while dropped < _LEFTOVER_LIMIT_BYTES and (chunk := socket.socket.recv(self.connection, 65536)):
                dropped += len(chunk)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error, without the characters that would write into a terminal."""
        self.refused = True
        super().send_error(code, None if message is None else printable(message, _SHOWN), explain)

    def do_GET(self) -> None:
        """Answer with a page."""
        if not self.server.admits(self.headers.get("Authorization", "")):
            unknown = Answer(HTTPStatus.UNAUTHORIZED, self.error_content_type, b"expected the header Authorization: Bearer TOKEN\n")
            self._send(unknown, **{"WWW-Authenticate": 'Bearer realm="edgepose"'})
            return
        path = printable(self.path, _SHOWN)
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer_text(HTTPStatus.NOT_FOUND, f"{path} does not exist; expected {', '.join(self.server.pages)}")
            return
        try:
            answer = page(self.headers.get("Accept", ""))
        except Exception as error:
            _log.error("%s cannot be written: %s: %s", path, type(error).__name__, error, exc_info=_log.isEnabledFor(10))
            self._answer_text(HTTPStatus.INTERNAL_SERVER_ERROR, "this page cannot be written; the log has the reason")
            return
        self._send(answer)

    do_HEAD = do_GET  # noqa: N815 (names that http.server calls)

    def do_POST(self) -> None:
        """Refuse methods that would change something."""
        self._send(Answer(HTTPStatus.METHOD_NOT_ALLOWED, self.error_content_type, b"only GET and HEAD are answered\n"), Allow="GET, HEAD")

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815

    def version_string(self) -> str:
        """Return the program's name, without the version of Python."""
        return "edgepose"

    def log_message(self, format: str, *args: Any) -> None:
        """Log requests at debug level only."""
        _log.debug("%s", printable(format % args, 2 * _SHOWN))

    def _answer_text(self, status: HTTPStatus, text: str) -> None:
        self._send(Answer(status, self.error_content_type, f"{text}\n".encode()))

    def _send(self, answer: Answer, **headers: str) -> None:
        self.send_response(answer.status)
        for name, value in {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
