"""A TCP relay with faults: shut, mute, slow, or damaging what passes."""

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable

from testing.servers.mosquitto import free_port

Mangle = Callable[[bytes], bytes]
"""Takes bytes on their way to the client and returns what the client gets."""

_CHUNK = 4096
_TURN_S = 0.05


class Relay:
    """A relay from a port of its own to another port; a context manager.

    A shut relay refuses connections and has none. A mute one accepts them and passes nothing in either direction.

    Attributes:
        port: its own, the same as long as it lives.
        mangle: None, or the function that changes bytes from server to client.
        bytes_per_s: None, or the limit in each direction.
        mute: whether it passes nothing.
    """

    def __init__(self, target: int, address: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.mangle: Mangle | None = None
        self.bytes_per_s: float | None = None
        self.mute = False
        self._target = target
        self._address = address
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()

    def __enter__(self) -> "Relay":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()

    def open(self) -> None:
        """Accept connections."""
        listener = socket.create_server((self._address, self.port), backlog=16)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="relay", daemon=True).start()

    def shut(self) -> None:
        """Refuse new connections and end the present ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # ends an accept in progress
            listener.close()
        self.cut()

    def cut(self) -> None:
        """End the present connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            for source, sink, mangled in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(pair, source, sink, mangled), name="relay-pass", daemon=True).start()

    def _pass(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket, mangled: bool) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(source, selectors.EVENT_READ)
                while pair in self._pairs:
                    if self.mute:
                        time.sleep(_TURN_S)
                        continue
                    if not selector.select(_TURN_S):
                        continue
                    data = source.recv(_CHUNK)
                    if not data:
                        break
                    if self.bytes_per_s is not None:
                        time.sleep(len(data) / self.bytes_per_s)
                    mangle = self.mangle
                    sink.sendall(mangle(data) if mangled and mangle is not None else data)
        except OSError:
            pass
        finally:
            self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
