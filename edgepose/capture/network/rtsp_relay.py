"""The connection to an RTSP camera, made here and handed to the reader through this host's loopback.

FFmpeg and GStreamer follow redirects (RFC 2326, 11.3) anywhere, without end, and with the password, and bound neither headers nor packets.
So they connect to a relay, which connects to a judged address, verifies its certificate, reads the replies until the stream plays, and
counts bytes after that. To the camera the relay looks like a router that forwards a port: the path of the URL counts, not its host.
"""

import contextlib
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urljoin, urlsplit

from edgepose.capture import limits, tls
from edgepose.capture.failures import connection_failure
from edgepose.capture.network.addresses import Endpoint, Reach
from edgepose.capture.redact import show
from edgepose.errors import SourceError

_PORTS = {"rtsp": 554, "rtsps": 322}
_CHUNK_BYTES = 65_536
_TURN_S = 0.5
_SEND_S = 60.0
_END_S = 0.3
"""Longest wait for the end of a session to reach the camera."""

_LENGTH = re.compile(rb"^content-length\s*:\s*([0-9]{1,12})\s*$", re.IGNORECASE | re.MULTILINE)
_LOCATION = re.compile(rb"^location\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_TRANSPORT = re.compile(rb"^transport\s*:[^\r\n]*server_port=[^\r\n]*", re.IGNORECASE | re.MULTILINE)


class RtspRoute:
    """Where an RTSP camera is: its URL, or the one that its server redirects to.

    Args:
        url: `rtsp://` or `rtsps://`, with credentials.
        where: name of the source in messages.
        ca_file: CA certificates; None uses the system's.
        timeout_s: longest wait for a connection.
        limit_bytes: most bytes between two frames.
    """

    def __init__(self, url: str, where: str, *, ca_file: str | None, timeout_s: float, limit_bytes: int) -> None:
        self._home = urlsplit(url)
        self._where = where
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._reach = Reach(self._home.hostname or "", where)
        self._parts = self._home
        self._relay: RtspRelay | None = None

    def open(self, opening: Callable[[], None]) -> None:
        """Call `opening`, which connects to `connect()`, again after each redirect.

        Raises:
            SourceError: there are too many redirects, or one leads where it must not.
            Exception: what `opening` raises.
        """
        self._parts = self._home
        for _ in range(limits.REDIRECTS + 1):
            try:
                return opening()
            except Exception:
                relay = self._relay
                if relay is not None and relay.failure is not None:
                    raise relay.failure from None
                if relay is None or relay.location is None:
                    raise
                self._parts = self._redirected(relay.location)
        raise SourceError(
            f"{self._where} redirects more than {limits.REDIRECTS} times, lastly to {show(self._parts.geturl())};"
            " expected a URL that leads to a video",
            "failed",
        )

    def connect(self) -> str:
        """Connect to the camera and return the URL for the reader, on this host; with the camera's credentials on its own host only.

        Raises:
            SourceError: the connection fails.
        """
        self.close()
        parts = self._parts
        secure = parts.scheme.lower() == "rtsps"
        try:
            endpoints = self._reach.resolve(parts.hostname or "", parts.port or _PORTS[parts.scheme.lower()], parts.geturl())
            upstream = self._connected(endpoints, parts.hostname or "", secure=secure)
        except ssl.SSLError as error:
            raise tls.handshake_failure(error, self._where, self._ca_file) from error
        except (OSError, UnicodeError) as error:
            raise connection_failure(error, self._where, opening=True) from error
        self._relay = RtspRelay(upstream, self._where, self._limit_bytes, self._timeout_s)
        userinfo, at, _ = self._home.netloc.rpartition("@") if self._is_home(parts) else ("", "", "")
        return parts._replace(scheme="rtsp", netloc=f"{userinfo}{at}{self._relay.address}").geturl()

    def frame_came(self) -> None:
        """Note that what came so far made a frame."""
        if self._relay is not None:
            self._relay.bytes_since_frame = 0

    @property
    def failure(self) -> SourceError | None:
        """Why the relay ended the connection, None where it did not."""
        return self._relay.failure if self._relay is not None else None

    def end_reading(self) -> None:
        """Let the reader see the end of the stream; from any thread."""
        relay = self._relay
        if relay is not None:
            relay.end_reading()

    def close(self) -> None:
        """End the connection, after what the reader sent lastly."""
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.close()

    def _is_home(self, parts: SplitResult) -> bool:
        home = self._home
        ports = [part.port or _PORTS[part.scheme.lower()] for part in (parts, home)]
        return (parts.hostname or "").lower() == (home.hostname or "").lower() and (ports[0] == ports[1] or parts.scheme.lower() == "rtsps")

    def _connected(self, endpoints: list[Endpoint], host: str, *, secure: bool) -> socket.socket:
        failure: OSError = OSError("no address")
        deadline_s = time.monotonic() + self._timeout_s
        for endpoint in endpoints:
            connection = socket.socket(endpoint.family, socket.SOCK_STREAM)
            connection.settimeout(max(0.1, deadline_s - time.monotonic()))
            try:
                connection.connect(endpoint.address)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return tls.context(self._ca_file, self._where).wrap_socket(connection, server_hostname=host) if secure else connection
            except OSError as error:
                connection.close()
                failure = error
                if isinstance(error, ssl.SSLError):
                    break
            except SourceError:
                connection.close()
                raise
        raise failure

    def _redirected(self, location: str) -> SplitResult:
        """Return the URL that a redirect leads to, without its user name."""
        before = self._parts
        try:
            if "://" not in location:  # a path
                location = f"{before.scheme}{urljoin(before._replace(scheme='http').geturl(), location).removeprefix('http')}"
            parts = urlsplit(location)
            valid = parts.scheme.lower() in _PORTS and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise SourceError(f"{self._where} redirects to {show(location)}; expected rtsp:// or rtsps:// and a host", "forbidden")
        if before.scheme.lower() == "rtsps" and parts.scheme.lower() != "rtsps":
            raise SourceError(
                f"{self._where} redirects from rtsps to {show(location)}, which is not encrypted; expected rtsps to the end", "forbidden"
            )
        return parts._replace(netloc=parts.netloc.rpartition("@")[2])


class RtspRelay:
    """A relay of one connection, in a thread of its own.

    Args:
        upstream: the connection to the camera.
        where: name of the source in messages.
        limit_bytes: most bytes between two frames.
        timeout_s: longest wait for the reader.
    """

    def __init__(self, upstream: socket.socket, where: str, limit_bytes: int, timeout_s: float) -> None:
        self._upstream = upstream
        self._where = where
        self._limit_bytes = limit_bytes
        # The reader binds its UDP ports in the family of this address.
        family = upstream.family
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._listener = socket.create_server((host, 0), family=family, backlog=1)
        self._listener.settimeout(timeout_s)
        port = self._listener.getsockname()[1]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """Host and port for the reader."""
        self._camera_ip = str(upstream.getpeername()[0]).partition("%")[0]
        self._reader: socket.socket | None = None
        self._replies = b""
        self._plays = False
        self._closing = threading.Event()
        self.bytes_since_frame = 0
        """Bytes since the reader said that it has a frame."""
        self.location: str | None = None
        """Where the server redirects to."""
        self.failure: SourceError | None = None
        """Why the relay ended the connection."""
        self._thread = threading.Thread(target=self._run, name="rtsp-relay", daemon=True)
        self._thread.start()

    def end_reading(self) -> None:
        """Let the reader see the end of the stream; what it sends still reaches the camera. From any thread."""
        self._closing.set()
        reader = self._reader
        if reader is not None:
            with contextlib.suppress(OSError):
                reader.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection, after what the reader sent lastly."""
        self._closing.set()
        self._thread.join(_END_S)
        for connection in (self._upstream, self._reader):
            if connection is not None:
                with contextlib.suppress(OSError, ValueError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            with self._listener:
                self._reader, _ = self._listener.accept()
            self._reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._reader.settimeout(_SEND_S)
            self._upstream.settimeout(_SEND_S)
            while self._pass_on(self._reader):
                pass
        except SourceError as error:
            self.failure = error
        except (OSError, ValueError):
            pass  # one side is gone: the other one learns it now
        finally:
            for side in (self._reader, self._upstream):
                if side is not None:
                    with contextlib.suppress(OSError):
                        side.close()

    def _pass_on(self, reader: socket.socket) -> bool:
        """Pass on what has come from either side, and return whether to continue."""
        pending = isinstance(self._upstream, ssl.SSLSocket) and self._upstream.pending() > 0
        ready = [self._upstream] if pending else select.select([reader, self._upstream], [], [], _TURN_S)[0]
        if reader in ready:
            data = reader.recv(_CHUNK_BYTES)
            if not data:
                return False
            if not self._plays and data.startswith(b"PLAY "):
                self._plays = True
                self._send(reader, self._replies)
                self._replies = b""
            self._upstream.sendall(data)
        if self._upstream in ready:
            answer = self._receive()
            if answer is None:
                return True
            if not answer:
                return False
            self.bytes_since_frame += len(answer)
            limits.refuse_large_part(self.bytes_since_frame, self._limit_bytes, self._where)
            self._send(reader, answer if self._plays else self._judged(answer))
        return self.location is None

    def _receive(self) -> bytes | None:
        """Return what the camera has sent, None where that was only for TLS itself (a session ticket); nothing at the end."""
        self._upstream.settimeout(0)
        try:
            return self._upstream.recv(_CHUNK_BYTES)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        finally:
            self._upstream.settimeout(_SEND_S)

    def _send(self, reader: socket.socket, data: bytes) -> None:
        if data and not self._closing.is_set():
            reader.sendall(data)

    def _judged(self, data: bytes) -> bytes:
        """Return the complete replies, none that redirects."""
        self._replies += data
        passed = b""
        while self._replies:
            if self._replies[:1] == b"$":
                size = 4 + int.from_bytes(self._replies[2:4].ljust(2, b"\xff"), "big")
            else:
                head, end, _ = self._replies.partition(b"\r\n\r\n")
                if len(head) > limits.HEADER_BYTES:
                    raise SourceError(
                        f"{self._where} sent more than {limits.HEADER_BYTES // 1024} KiB of headers; expected fewer",
                        "too_large",
                    )
                if not end:
                    break
                size = len(head) + 4 + self._body_length(head)
            if len(self._replies) < size:
                break
            reply, self._replies = self._replies[:size], self._replies[size:]
            if self._redirects(reply):
                return b""
            passed += self._with_source(reply)
        return passed

    def _body_length(self, head: bytes) -> int:
        found = _LENGTH.search(head.replace(b"\r\n", b"\n"))
        length = int(found[1]) if found else 0
        limits.refuse_large_part(length, limits.PLAYLIST_BYTES, self._where)
        return length

    def _redirects(self, reply: bytes) -> bool:
        head = reply.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"\n")
        if not re.match(rb"RTSP/1\.[0-9] 3[0-9][0-9]\b", head):
            return False
        location = _LOCATION.search(head)
        self.location = location[1].decode("utf-8", "replace") if location else ""
        return True

    def _with_source(self, reply: bytes) -> bytes:
        """Return a reply that tells the reader where RTP over UDP comes from: without that it takes the relay for the camera."""
        found = _TRANSPORT.search(reply)
        if found is None or b"source=" in found[0].lower():
            return reply
        return reply[: found.end()] + f";source={self._camera_ip}".encode() + reply[found.end() :]
