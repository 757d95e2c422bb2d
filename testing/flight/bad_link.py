"""A radio link that loses, delays, reorders and repeats datagrams: a proxy between two UDP ports."""

import heapq
import random
import select
import socket
import threading
import time


class BadLink(threading.Thread):
    """The link from a vehicle to a listener; a context manager.

    Args:
        to_port: port of the listener on this machine.
        loss: share of datagrams that are lost.
        late: share of datagrams that arrive up to `late_s` later, which reorders them.
        repeated: share that arrive twice.
    """

    def __init__(self, to_port: int, *, loss: float = 0.0, late: float = 0.0, late_s: float = 0.3, repeated: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._to = ("127.0.0.1", to_port)
        self._loss, self._late, self._late_s, self._repeated = loss, late, late_s, repeated
        self._random = random.Random(5)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ending = threading.Event()
        self.port = int(self._socket.getsockname()[1])
        self.passes = True

    def __enter__(self) -> "BadLink":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(5)
        self._socket.close()
        self._out.close()

    def run(self) -> None:
        waiting: list[tuple[float, int, bytes]] = []
        number, vehicle = 0, None
        while not self._ending.is_set():
            for ready in select.select([self._socket, self._out], [], [], 0.005)[0]:
                data, peer = ready.recvfrom(65_536)
                if ready is self._out:
                    if vehicle is not None:
                        self._socket.sendto(data, vehicle)
                    continue
                vehicle = peer
                if not self.passes or self._random.random() < self._loss:
                    continue
                for _ in range(2 if self._random.random() < self._repeated else 1):
                    wait_s = self._random.uniform(0, self._late_s) if self._random.random() < self._late else 0.0
                    number += 1
                    heapq.heappush(waiting, (time.monotonic() + wait_s, number, data))
            while waiting and waiting[0][0] <= time.monotonic():
                self._out.sendto(heapq.heappop(waiting)[2], self._to)
