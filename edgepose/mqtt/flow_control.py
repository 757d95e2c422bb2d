"""What is on its way to the broker, and whether more would only wait behind it.

A socket takes whatever fits into its buffer, and a socket for a slow path buffers seconds of it: a message that was the newest when the
socket took it is old when it arrives. So one that is of use only while it is new is kept back until little enough is before it. How much
is on its way, the kernel knows (`SocketTraffic`). It does not know what becomes of it: the kernel of a frozen broker takes data until its
own buffer is full. So the broker itself is asked for a sign of life, time and again (`PingProbe`).
"""

import fcntl
import math
import socket
import struct
import sys
import termios
import time
from collections import deque

QUEUE_S = 0.25
"""How long what is on its way may take, beyond the time that the path takes anyway."""

PING_INTERVAL_S = 0.1
"""How long a sign of life holds, while there is something to send."""

LEAST_BYTES = 1024
"""So little may always be on its way: a path that was idle has shown nothing of what it can do."""

POLL_S = 0.005
"""How often to look while a message is kept back: the kernel wakes nobody when the far side acknowledges."""

_SAMPLE_S = 0.01
_LONGEST_TRIP_S = 1.0  # more than a geostationary satellite and back; a longer one was measured behind a queue
_TCP_INFO = struct.Struct("@120xQ16x4xI")  # tcpi_bytes_acked (Linux 4.1), tcpi_min_rtt in microseconds (4.6); see linux/tcp.h


class SendWindow:
    """How much may be on the way: as much as the far side took in the last quarter of a second and a round trip.

    Pure arithmetic; a path whose speed is what is asked of it always has more room than is asked for, a slow one has
    what it passes on in that time.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()  # times, and bytes acknowledged until then
        self._trip_s = _LONGEST_TRIP_S

    def room(self, outstanding: int, acknowledged: int, trip_s: float, now_s: float) -> bool:
        """Whether another message may follow.

        Args:
            outstanding: bytes that the far side has not acknowledged, sent or not.
            acknowledged: bytes that it has, since the connection began.
            trip_s: shortest round trip that was measured lately, or not above 0 where there was none.
            now_s: clock reading.
        """
        if trip_s > 0:  # the shortest ever: on a path that is always full the last minutes' shortest grows with the queue
            self._trip_s = min(self._trip_s, trip_s)
        samples, window_s = self._samples, QUEUE_S + self._trip_s
        while len(samples) > 1 and samples[1][0] <= now_s - window_s:
            samples.popleft()
        if not samples or now_s - samples[-1][0] >= _SAMPLE_S:
            samples.append((now_s, acknowledged))
        since_s, before = samples[0]
        taken = (acknowledged - before) * min(1.0, window_s / max(window_s, now_s - since_s))
        return outstanding <= max(LEAST_BYTES, taken)


class PingProbe:
    """Whether the broker still reads what the kernels take for it. Pure arithmetic, like `SendWindow`; times are readings of one clock."""

    def __init__(self) -> None:
        self._asked_s: float | None = None
        self._answered_s = -math.inf
        self._shortest_s = _LONGEST_TRIP_S

    def due(self, now_s: float) -> bool:
        """Whether it is time to ask again."""
        return self._asked_s is None and now_s - self._answered_s >= PING_INTERVAL_S

    def asked(self, now_s: float) -> None:
        """The question is on its way."""
        self._asked_s = now_s

    def answered(self, now_s: float) -> None:
        """The answer is here."""
        if self._asked_s is not None:
            self._shortest_s = min(self._shortest_s, now_s - self._asked_s)
            self._asked_s, self._answered_s = None, now_s

    def room(self, now_s: float) -> bool:
        """Whether another message may follow: not once the answer takes so much longer than the shortest one took."""
        return self._asked_s is None or now_s - self._asked_s <= QUEUE_S + self._shortest_s


class SocketTraffic:
    """The traffic of one connected socket; where the system cannot tell, there is always room."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_window = SendWindow()
        self._blind = sys.platform != "linux"

    def room(self) -> bool:
        """Whether a message that is handed over now is on its way soon."""
        if self._blind:
            return True
        try:
            outstanding = int.from_bytes(fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            acknowledged, trip_us = _TCP_INFO.unpack(info)
        except (OSError, ValueError, struct.error):  # closed, no TCP, or an older kernel
            self._blind = True
            return True
        return self._send_window.room(outstanding, acknowledged, trip_us / 1e6 if trip_us < 0xFFFFFFFF else -math.inf, time.monotonic())
