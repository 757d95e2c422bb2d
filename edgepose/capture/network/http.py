"""Requests to HTTP cameras: every connection goes to an address that was judged, every certificate is verified, everything is bounded."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from edgepose.capture import limits, tls
from edgepose.capture.failures import connection_failure, http_failure
from edgepose.capture.network.addresses import Endpoint, Reach
from edgepose.capture.network.authentication import Credentials
from edgepose.capture.redact import show
from edgepose.errors import SourceError

_PORTS = {"http": 80, "https": 443}
_REDIRECTED = (301, 302, 303, 307, 308)
_LEAST_BYTES = 16
_COOKIES = 20
_COOKIE_CHARACTERS = 4096
_SKIP_BYTES = 256 * 1024
"""A seek forward by up to this is read over; a longer one is a request of its own."""


class HttpAnswer:
    """The answer to one request, read as a file by one thread.

    Attributes:
        url: where it came from, after redirects.
        content_type: media type in lower case, without parameters; empty where it is unknown.
        length: bytes of the body, None where it is unknown.
        taken: bytes that were read since `taken` was set to 0.
    """

    def __init__(self, connection: "_Connection", response: http.client.HTTPResponse, url: str, where: str) -> None:
        self._connection = connection
        self._response = response
        self._where = where
        self.url = url
        self.content_type = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        self.length = response.length
        self.seekable_bytes = (response.getheader("Accept-Ranges") or "").strip().lower() == "bytes" and self.length is not None
        self.taken = 0
        self._peeked = b""

    def peek(self, size: int) -> bytes:
        """Return the first bytes without taking them, at least 16 unless the answer is shorter, at most `size`."""
        while len(self._peeked) < _LEAST_BYTES and (data := self._receive(size - len(self._peeked))):
            self._peeked += data
        return self._peeked

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size`; none at the end.

        Raises:
            SourceError: the connection was lost, or nothing came in time.
        """
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
        else:
            data = self._receive(size)
        self.taken += len(data)
        return data

    def close(self) -> None:
        """End the connection."""
        self._response.close()
        self._connection.end()

    def _receive(self, size: int) -> bytes:
        try:
            return self._response.read1(size)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # the last two: closed by another thread
            raise connection_failure(error, self._where, opening=False) from error


class HttpClient:
    """The requests for one source, which share credentials, cookies and bounds.

    Args:
        url: the URL that the operator named.
        where: name of the source in messages.
        ca_file: CA certificates; None uses the system's.
        open_timeout_s: longest wait for each step until an answer begins.
        read_timeout_s: longest wait for more of an answer.
    """

    def __init__(self, url: str, where: str, *, ca_file: str | None, open_timeout_s: float, read_timeout_s: float) -> None:
        self.url = url
        self._where = where
        self._ca_file = ca_file
        self._timeouts = (open_timeout_s, read_timeout_s)
        self._home = _split(url, where)
        self._reach = Reach(self._home.hostname or "", where)
        self._credentials = Credentials.of(self._home)
        self._cookies: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()  # guards the two below
        self._open: set[_Connection] = set()
        self._closed = False

    def get(self, url: str | None = None, *, first_byte: int = 0, timeout_s: float | None = None) -> HttpAnswer:
        """Request a URL, by default the source's own, and return the answer; follows redirects.

        Args:
            url: what to request.
            first_byte: where the answer shall begin.
            timeout_s: longest wait for more of the answer; None uses that of the source.

        Raises:
            SourceError: there is no answer, it is an error, or it leads where it must not.
        """
        url = url or self.url
        for _ in range(limits.REDIRECTS + 1):
            parts = _split(url, self._where)
            answer = self._request(parts, first_byte, timeout_s or self._timeouts[1])
            status, location = answer._response.status, answer._response.getheader("Location")
            if status in _REDIRECTED and location:
                answer.close()
                url = _joined(url, location)
                self._refuse_redirect(parts, url)
                continue
            if status >= 300:
                answer.close()
                raise http_failure(status, self._where)
            return answer
        raise SourceError(
            f"{self._where} redirects more than {limits.REDIRECTS} times, lastly to {show(url)}; expected a URL that leads to a video",
            "failed",
        )

    def abort(self) -> None:
        """Let all that waits for a connection end soon, from any thread; no further one is opened."""
        for connection in self._last():
            connection.abort()

    def close(self) -> None:
        """End all connections; no further one is opened."""
        for connection in self._last():
            connection.end()

    def _last(self) -> "list[_Connection]":
        with self._lock:
            self._closed = True
            return list(self._open)

    def _refuse_redirect(self, before: SplitResult, url: str) -> None:
        if before.scheme.lower() == "https" and _split(url, self._where).scheme.lower() != "https":
            raise SourceError(
                f"{self._where} redirects from https to {show(url)}, which is not encrypted; expected https to the end", "forbidden"
            )

    def _request(self, parts: SplitResult, first_byte: int, timeout_s: float) -> HttpAnswer:
        """Return the answer to one request; one that asks for a password is repeated with it."""
        answer = self._send(parts, first_byte, timeout_s)
        credentials = self._credentials if self._is_home(parts) else None
        if answer._response.status == 401 and credentials is not None:
            answer.close()
            if credentials.challenged(answer._response.headers.get_all("WWW-Authenticate") or []):
                answer = self._send(parts, first_byte, timeout_s)
        return answer

    def _send(self, parts: SplitResult, first_byte: int, timeout_s: float) -> HttpAnswer:
        host, secure = parts.hostname or "", parts.scheme.lower() == "https"
        port = parts.port or _PORTS[parts.scheme.lower()]
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~|[]^`\"<>{}\\") + (
            f"?{quote(parts.query, safe=_QUERY)}" if parts.query else ""
        )
        connection: _Connection | None = None
        try:
            endpoints = self._reach.resolve(host, port, parts.geturl())
            context = tls.context(self._ca_file, self._where) if secure else None
            connection = _Connection(host, port, endpoints, context, self._timeouts[0], self._forget)
            self._remember(connection)
            connection.request("GET", target, headers=self._headers(parts, target, first_byte))
            response = connection.getresponse()
            too_many = sum(len(name) + len(value) + 4 for name, value in response.getheaders()) > limits.HEADER_BYTES
            if too_many:
                raise SourceError(f"{self._where} sent more than {limits.HEADER_BYTES // 1024} KiB of headers; expected fewer", "too_large")
        except (OSError, http.client.HTTPException, UnicodeError, ValueError, SourceError) as error:
            if connection is not None:
                connection.end()
            if secure and isinstance(error, ssl.SSLError):
                raise tls.handshake_failure(error, self._where, self._ca_file) from error
            raise connection_failure(error, self._where, opening=True) from error
        connection.wait_at_most(timeout_s)
        self._keep_cookies(host, response)
        return HttpAnswer(connection, response, parts.geturl(), self._where)

    def _headers(self, parts: SplitResult, target: str, first_byte: int) -> dict[str, str]:
        headers = {"User-Agent": "edgepose", "Accept": "*/*", "Connection": "close"}
        if first_byte:
            headers["Range"] = f"bytes={first_byte}-"
        if self._credentials is not None and self._is_home(parts):
            authorization = self._credentials.header("GET", target)
            if authorization is not None:
                headers["Authorization"] = authorization
        cookies = self._cookies.get((parts.hostname or "").lower())
        if cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        return headers

    def _is_home(self, parts: SplitResult) -> bool:
        """Return whether credentials may be sent there: to the named host and port, and to its port 443 where 80 leads there."""
        if (parts.hostname or "").lower() != (self._home.hostname or "").lower():
            return False
        scheme, home = parts.scheme.lower(), self._home.scheme.lower()
        port, home_port = parts.port or _PORTS[scheme], self._home.port or _PORTS[home]
        return (scheme, port) == (home, home_port) or (home, home_port, scheme, port) == ("http", 80, "https", 443)

    def _keep_cookies(self, host: str, response: http.client.HTTPResponse) -> None:
        for header in response.headers.get_all("Set-Cookie") or []:
            name, _, value = header.partition(";")[0].strip().partition("=")
            kept = self._cookies.setdefault(host.lower(), {})
            if name and len(header) <= _COOKIE_CHARACTERS and (name in kept or len(kept) < _COOKIES) and header.isprintable():
                kept[name] = value

    def _remember(self, connection: "_Connection") -> None:
        with self._lock:
            self._open.add(connection)
            closed = self._closed
        if closed:
            connection.abort()
            raise SourceError(f"{self._where} is closed", "closed")

    def _forget(self, connection: "_Connection") -> None:
        with self._lock:
            self._open.discard(connection)


class HttpFile:
    """One URL as a file for FFmpeg, which may jump in it where the server allows that.

    Args:
        client: makes the requests.
        answer: the beginning.
        limit_bytes: most bytes between two calls of `frame_came`, for a stream without a length; 0 for no limit.
        where: name of the source in messages.
        name: file name, whose suffix FFmpeg may need to tell the format.
    """

    def __init__(self, client: HttpClient, answer: HttpAnswer, limit_bytes: int, where: str, name: str) -> None:
        self.name = name
        self._client = client
        self._answer = answer
        self._limit_bytes = 0 if answer.length is not None else limit_bytes
        self._where = where
        self._length = answer.length
        self._at = 0  # of the next read
        self._answered_at = 0  # of the answer

    def read(self, size: int) -> bytes:
        """Return some bytes, at most `size`; none at the end."""
        self._catch_up()
        data = self._answer.read(size)
        self._at += len(data)
        self._answered_at = self._at
        if self._limit_bytes:
            limits.refuse_large_part(self._answer.taken, self._limit_bytes, self._where)
        return data

    def frame_came(self) -> None:
        """Note that what was read so far made a frame."""
        self._answer.taken = 0

    def seekable(self) -> bool:
        """Return whether the server can begin an answer anywhere."""
        return self._answer.seekable_bytes

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set where the next `read` begins."""
        self._at = max(0, offset + (0, self._at, self._length or 0)[whence])
        return self._at

    def tell(self) -> int:
        """Return where the next `read` begins."""
        return self._at

    def close(self) -> None:
        """End the connection."""
        self._answer.close()

    def _catch_up(self) -> None:
        if self._at == self._answered_at:
            return
        if 0 < self._at - self._answered_at <= _SKIP_BYTES:
            while self._answered_at < self._at and (skipped := self._answer.read(self._at - self._answered_at)):
                self._answered_at += len(skipped)
            return
        self._answer.close()
        if self._length is not None and self._at >= self._length:
            self._answered_at = self._at  # the answer is closed: nothing follows
            return
        self._answer = self._client.get(first_byte=self._at)
        if self._at and self._answer._response.status != 206:
            raise SourceError(f"{self._where} answers a part of a file with the whole; expected a server that knows ranges", "failed")
        self._answered_at = self._at


class _Connection(http.client.HTTPConnection):
    """A connection to one of several judged addresses; `abort` from any thread."""

    def __init__(
        self,
        host: str,
        port: int,
        endpoints: list[Endpoint],
        context: ssl.SSLContext | None,
        timeout_s: float,
        closed: Callable[["_Connection"], None],
    ) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._endpoints = endpoints
        self._context = context
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._aborted = False
        self._told = closed
        self._timeout_s = timeout_s
        self.default_port = 443 if context is not None else 80  # so that Host names no usual port

    def connect(self) -> None:
        """Connect to the first address that answers."""
        failure: OSError | None = None
        deadline_s = time.monotonic() + self._timeout_s
        for endpoint in self._endpoints:
            plain = socket.socket(endpoint.family, socket.SOCK_STREAM)
            self._socket = plain
            plain.settimeout(max(0.1, deadline_s - time.monotonic()))
            try:
                plain.connect(endpoint.address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._context is not None:
                    self._socket = plain = self._context.wrap_socket(plain, server_hostname=self.host)
            except OSError as error:
                plain.close()
                failure = error
                if isinstance(error, ssl.SSLError):
                    raise
                continue
            self.sock = plain
            if self._aborted:
                self.abort()
            return
        raise failure or OSError("no address")

    def wait_at_most(self, timeout_s: float) -> None:
        """Set the longest wait for more of the answer."""
        if self._socket is not None:
            self._socket.settimeout(timeout_s)

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer."""
        self._response = super().getresponse()
        return self._response

    def abort(self) -> None:
        """End the connection; what waits for it ends soon."""
        self._aborted = True
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError, ValueError):
                connected.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End the connection and free its socket; only in the thread that reads."""
        self.abort()
        if self._response is not None:
            self._response.close()
        self.close()
        if self._socket is not None:
            self._socket.close()
        self._told(self)


def _joined(url: str, location: str) -> str:
    """Return where a redirect leads to; a location that is no URL stays as it is, and is refused."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


_QUERY = "/%:@!$&'()*+,;=~|[]^`\"<>{}\\?"


def _split(url: str, where: str) -> SplitResult:
    """Return the parts of a URL that may be requested.

    Raises:
        SourceError: it is of another protocol, or no URL.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme.lower() in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise SourceError(f"{where} leads to {show(url)}; expected http:// or https:// and a host", "forbidden")
    return parts
