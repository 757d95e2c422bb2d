"""A deadline for a whole conversation over a socket, where time-outs bound single steps only."""

import contextlib
import socket
import threading
import time

_LEAST_S = 0.001


class SocketDeadline:
    """A socket that is shut down at a moment: a server that sends byte by byte would otherwise never exceed a time-out."""

    def __init__(self, sock: socket.socket, at_s: float) -> None:
        self.sock = sock
        self.passed = False
        self._timer = threading.Timer(max(_LEAST_S, at_s - time.monotonic()), self._expire)
        self._timer.daemon = True

    def watch(self, sock: socket.socket) -> None:
        """Take the place of the socket by the one that wraps it."""
        self.sock = sock

    def __enter__(self) -> "SocketDeadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with contextlib.suppress(OSError):
            self.sock.close()

    def _expire(self) -> None:
        self.passed = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # not that of TLS, which is not safe in another thread
