"""The wires of MAVLink: UDP, TCP and a serial line, each with bounded waits."""

import os
import select
import socket
import termios
from typing import Protocol
from urllib.parse import urlsplit

from edgepose.errors import UnavailableError

_CONNECT_S = 5.0
_DATAGRAM = 65_536


class Transport(Protocol):
    """A wire."""

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, nothing after the timeout; OSError where the wire is broken."""
        ...

    def send(self, data: bytes) -> None:
        """Send one packet, or lose it where the wire is full; OSError where it is broken."""
        ...

    def close(self) -> None:
        """Close the wire."""
        ...


def open_transport(address: str) -> Transport:
    """Open a wire.

    Args:
        address: `udpin://HOST:PORT`, `udpout://HOST:PORT`, `tcpout://HOST:PORT` or `serial:///dev/NAME:BAUD`.

    Raises:
        UnavailableError: it cannot be opened now.
    """
    scheme, _, rest = address.partition("://")
    try:
        if scheme == "serial":
            path, _, baud = rest.rpartition(":")
            return _Serial(path, int(baud))
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 0
        return _Tcp(host, port) if scheme == "tcpout" else _Udp(host, port, listens=scheme == "udpin")
    except (OSError, ValueError, UnicodeError, termios.error) as error:
        raise UnavailableError(f"{address} cannot be opened ({error}); expected a peer or a device there") from error


class _Udp:
    def __init__(self, host: str, port: int, *, listens: bool) -> None:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._peer = None if listens else where
        try:
            if listens:
                self._socket.bind(where)
        except OSError:
            self._socket.close()
            raise

    def receive(self, timeout_s: float) -> bytes:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return b""
        try:
            data, peer = self._socket.recvfrom(_DATAGRAM)
        except (BlockingIOError, ConnectionRefusedError):  # nobody listens at the peer yet
            return b""
        self._peer = peer
        return data

    def send(self, data: bytes) -> None:
        if self._peer is None:
            return
        try:
            self._socket.sendto(data, self._peer)
        except (BlockingIOError, ConnectionRefusedError):
            return

    def close(self) -> None:
        self._socket.close()


class _Tcp:
    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port), _CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)

    def receive(self, timeout_s: float) -> bytes:
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return b""
        data = self._socket.recv(_DATAGRAM)
        if not data:
            raise ConnectionResetError("the peer has closed the connection")
        return data

    def send(self, data: bytes) -> None:
        if select.select([], [self._socket], [], 0)[1] and self._socket.send(data) < len(data):
            raise ConnectionResetError("the connection takes no whole packet")

    def close(self) -> None:
        self._socket.close()


class _Serial:
    def __init__(self, path: str, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise ValueError(f"{baud} is no speed of a serial line")
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            control = termios.CS8 | termios.CREAD | termios.CLOCAL
            characters = termios.tcgetattr(self._file)[6]
            termios.tcsetattr(self._file, termios.TCSANOW, [0, 0, control, 0, speed, speed, characters])
        except termios.error:
            os.close(self._file)
            raise

    def receive(self, timeout_s: float) -> bytes:
        if not select.select([self._file], [], [], timeout_s)[0]:
            return b""
        data = os.read(self._file, _DATAGRAM)
        if not data:
            raise ConnectionResetError("the serial line has gone")
        return data

    def send(self, data: bytes) -> None:
        if select.select([], [self._file], [], 0)[1]:
            os.write(self._file, data)

    def close(self) -> None:
        os.close(self._file)
