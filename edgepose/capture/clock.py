"""When a picture was taken: pure arithmetic on time-stamps; whoever calls passes the time in."""

import time
from typing import NamedTuple

from edgepose.frame import Clock

NS_PER_S = 1_000_000_000


class Instant(NamedTuple):
    """One moment on both clocks of the host: durations are measured on the first, which nobody sets; the second is what people read.

    Attributes:
        monotonic_ns: nanoseconds since some start.
        wall_ns: nanoseconds since the Unix epoch (UTC).
    """

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> "Instant":
        """This moment."""
        return cls(time.monotonic_ns(), time.time_ns())


class Stamp(NamedTuple):
    """When a picture was taken.

    Attributes:
        captured_at: nanoseconds since the Unix epoch (UTC).
        clock: which clock says so.
        late_ns: how much later it came than the fastest picture of its stream, nanoseconds; 0 where there is no telling.
    """

    captured_at: int
    clock: Clock
    late_ns: int


class LiveClock:
    """Capture times of a live stream, from the best clock there is.

    `rtcp` where the sender's reports say when the picture was taken; `stream` where there are presentation times: they have no
    network jitter, so the picture that travelled fastest anchors them to the host's clock; `host`, the arrival, where there is
    neither. The first sender report comes seconds after the first picture: times may then step back once, by what the stream
    took to arrive.

    The anchor lies on the monotonic clock. A step of the host's wall clock (NTP, an operator) is therefore in the very next
    time and leaves no trace: pictures are neither old nor from the future because of it.

    Args:
        maximum_age_ns: pictures older than this by the sender's clock mean that its clock is not set: it is not believed.
        maximum_ahead_ns: nor is one by which pictures come from the future, further than two synchronised clocks may differ.
        maximum_back_ns: presentation times that go back by more than this have begun anew: anchored anew.
        drift: how much slower than the host's, as a fraction, the sender's clock may run before its anchor lags behind.
    """

    def __init__(
        self,
        *,
        maximum_age_ns: int = 2 * NS_PER_S,
        maximum_ahead_ns: int = NS_PER_S // 10,
        maximum_back_ns: int = NS_PER_S // 10,
        drift: float = 200e-6,
    ) -> None:
        self._maximum_age_ns = maximum_age_ns
        self._maximum_ahead_ns = maximum_ahead_ns
        self._maximum_back_ns = maximum_back_ns
        self._drift = drift
        self._anchor_ns: int | None = None
        self._last_pts_ns = 0
        self._last_arrival_ns = 0

    def stamp(self, pts_ns: int | None, sender_ns: int | None, arrival: Instant) -> Stamp:
        """Return when a picture was taken, which clock says so, and how late it came.

        Args:
            pts_ns: presentation time of the picture in its stream, where known.
            sender_ns: when the picture was taken according to the sender's reports, ns since the epoch, where there was one.
            arrival: when the picture arrived.
        """
        late_ns = 0 if pts_ns is None else self._late(pts_ns, arrival.monotonic_ns)
        stream_ns = arrival.wall_ns - late_ns
        # Against the time by the stream, not the arrival: without its jitter a clock on the edge is not believed by turns.
        if sender_ns is not None and -self._maximum_ahead_ns <= stream_ns - sender_ns <= self._maximum_age_ns:
            return Stamp(sender_ns, "rtcp", late_ns)
        return Stamp(stream_ns, "host" if pts_ns is None else "stream", late_ns)

    def _late(self, pts_ns: int, arrival_ns: int) -> int:
        offset_ns = arrival_ns - pts_ns
        if self._anchor_ns is None or pts_ns < self._last_pts_ns - self._maximum_back_ns:
            self._anchor_ns = offset_ns
        else:
            # A jump forward is like a faster picture: the anchor follows. Late pictures never move it, however many they are.
            passed_ns = max(0, arrival_ns - self._last_arrival_ns)
            self._anchor_ns = min(offset_ns, self._anchor_ns + round(passed_ns * self._drift))
        self._last_pts_ns = pts_ns
        self._last_arrival_ns = arrival_ns
        return offset_ns - self._anchor_ns


class FileClock:
    """Capture times of a file, as if it had been recorded from the moment it was opened.

    Args:
        opened_at_ns: when it was opened, ns since the epoch.
        interval_ns: time between two pictures, for those without a presentation time and between two passes of a loop.
    """

    def __init__(self, opened_at_ns: int, interval_ns: int) -> None:
        self._opened_at_ns = opened_at_ns
        self._interval_ns = interval_ns
        self._pass_began_ns = 0
        self._first_pts_ns: int | None = None
        self._next_ns = 0
        self.elapsed_ns = 0
        """Time of the last stamped picture since the file's first one."""

    def stamp(self, pts_ns: int | None) -> tuple[int, Clock]:
        """Return when a picture was taken (ns since the epoch, UTC) and which clock says so."""
        if pts_ns is None:
            elapsed_ns = self._next_ns
        else:
            if self._first_pts_ns is None:
                # Where pictures without a time came before, this one follows them.
                self._first_pts_ns = pts_ns - (self._next_ns - self._pass_began_ns)
            elapsed_ns = self._pass_began_ns + pts_ns - self._first_pts_ns
        self.elapsed_ns = max(elapsed_ns, self.elapsed_ns)
        self._next_ns = self.elapsed_ns + self._interval_ns
        return self._opened_at_ns + self.elapsed_ns, "stream"

    def restart(self) -> None:
        """Let the next picture, the file's first again, follow the last one."""
        self._pass_began_ns = self._next_ns
        self._first_pts_ns = None
