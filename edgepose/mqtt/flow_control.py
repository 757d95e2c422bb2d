"""Flow control: a bound on the data on its way to the broker, so that no message waits behind others.

A socket accepts whatever fits into its buffer, and on a slow path the buffer holds seconds of data: a message that was the newest when the
socket accepted it is outdated when it arrives. Therefore a message that is useful only while it is new is held back until little data is
ahead of it. The kernel reports how much data is on its way (`SocketTraffic`). It does not report whether the broker reads it: the kernel
of a frozen broker accepts data until its own buffer is full. Therefore the broker is pinged repeatedly (`PingProbe`).
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
"""Longest time that the data on its way may take beyond the round trip of the path."""

PING_INTERVAL_S = 0.1
"""Validity of the answer to a ping while there is something to send."""

LEAST_BYTES = 1024
"""Amount that may always be on its way: an idle path has not shown its speed yet."""

POLL_S = 0.005
"""Polling interval while a message is held back: the kernel signals no event when the far side acknowledges."""

_SAMPLE_S = 0.01
_LONGEST_TRIP_S = 1.0  # more than the round trip over a geostationary satellite; a longer one was measured behind a queue
_TCP_INFO = struct.Struct("@120xQ16x4xI")  # tcpi_bytes_acked (Linux 4.1), tcpi_min_rtt in microseconds (4.6); see linux/tcp.h


class SendWindow:
    """The amount of data that may be on its way: what the far side acknowledged in the last quarter of a second plus a round trip.

    Pure arithmetic. A path that is fast enough always has more room than is needed; a slow one has what it transmits in that time.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()  # times, and bytes acknowledged until then
        self._trip_s = _LONGEST_TRIP_S

    def room(self, outstanding: int, acknowledged: int, trip_s: float, now_s: float) -> bool:
        """Return whether another message may follow.

        Args:
            outstanding: bytes, sent or not, that the far side has not acknowledged.
            acknowledged: bytes that it has acknowledged since the connection began.
            trip_s: shortest round trip measured lately; 0 or less where there is none.
            now_s: clock reading.
        """
        if trip_s > 0:  # the shortest ever: on a path that is always full, the shortest of the last minutes grows with the queue
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
    """Detection of a broker that no longer reads what the kernels accept for it.

    Pure arithmetic, like `SendWindow`; times are readings of one clock.
    """

    def __init__(self) -> None:
        self._asked_s: float | None = None
        self._answered_s = -math.inf
        self._shortest_s = _LONGEST_TRIP_S

    @property
    def waits(self) -> bool:
        """Whether a ping is not answered yet."""
        return self._asked_s is not None

    def due(self, now_s: float) -> bool:
        """Return whether it is time for another ping."""
        return self._asked_s is None and now_s - self._answered_s >= PING_INTERVAL_S

    def asked(self, now_s: float) -> None:
        """Note that a ping was sent."""
        self._asked_s = now_s

    def answered(self, now_s: float) -> None:
        """Note that the answer arrived."""
        if self._asked_s is not None:
            self._shortest_s = min(self._shortest_s, now_s - self._asked_s)
            self._asked_s, self._answered_s = None, now_s

    def room(self, now_s: float) -> bool:
        """Return whether another message may follow: not while an answer takes much longer than the shortest one took."""
        return self._asked_s is None or now_s - self._asked_s <= QUEUE_S + self._shortest_s


class SocketTraffic:
    """The traffic of one connected socket; where the system does not report it, there is always room."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._send_window = SendWindow()
        self._blind = sys.platform != "linux"

    def room(self) -> bool:
        """Return whether a message that is handed over now will be sent soon."""
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
