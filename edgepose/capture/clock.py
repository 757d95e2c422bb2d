"""Capture times of frames: pure arithmetic on timestamps; the caller passes the time in."""

import time
from typing import NamedTuple

from edgepose.frame import Clock

NS_PER_S = 1_000_000_000


class Instant(NamedTuple):
    """One moment on both clocks of the host.

    Attributes:
        monotonic_ns: nanoseconds since an arbitrary start; for durations, since nobody can set this clock.
        wall_ns: nanoseconds since the Unix epoch (UTC).
    """

    monotonic_ns: int
    wall_ns: int

    @classmethod
    def now(cls) -> "Instant":
        """Return the present moment."""
        return cls(time.monotonic_ns(), time.time_ns())


class Stamp(NamedTuple):
    """The capture time of a frame.

    Attributes:
        captured_at_ns: nanoseconds since the Unix epoch (UTC).
        clock: the clock that the time comes from.
        late_ns: how much later the frame arrived than the fastest frame of its stream; 0 where unknown.
    """

    captured_at_ns: int
    clock: Clock
    late_ns: int


class LiveClock:
    """Capture times of a live stream, from the best available clock.

    The clock is `rtcp` where the sender's reports give the capture time. It is `stream` where there are presentation times: they have no
    network jitter, so the frame that traveled fastest anchors them to the host's clock. It is `host`, the time of arrival, where there is
    neither. The first sender report arrives seconds after the first frame; times may then step back once, by the delay of the stream.

    The anchor is on the monotonic clock. A step of the host's wall clock (NTP, an operator) therefore appears in the next capture time
    and has no further effect: it makes no frame appear old or from the future.

    Args:
        maximum_age_ns: the sender's clock is ignored (it is not set) where frames are older than this by it.
        maximum_ahead_ns: the sender's clock is ignored where frames are further in the future than this by it, which is more than two
            synchronized clocks differ.
        maximum_back_ns: the anchor is set again where presentation times go back by more than this, since they have restarted.
        drift: how much slower than the host's clock, as a fraction, the sender's clock may run before its anchor lags behind.
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
        """Return the capture time of a frame, its clock, and how late the frame arrived.

        Args:
            pts_ns: presentation time of the frame in its stream, where known.
            sender_ns: capture time according to the sender's reports, ns since the Unix epoch, where there was a report.
            arrival: time of arrival.
        """
        late_ns = 0 if pts_ns is None else self._late(pts_ns, arrival.monotonic_ns)
        stream_ns = arrival.wall_ns - late_ns
        # Compared with the stream's time, not the arrival: its jitter would make a clock near the limit alternate between used and ignored.
        if sender_ns is not None and -self._maximum_ahead_ns <= stream_ns - sender_ns <= self._maximum_age_ns:
            return Stamp(sender_ns, "rtcp", late_ns)
        return Stamp(stream_ns, "host" if pts_ns is None else "stream", late_ns)

    def _late(self, pts_ns: int, arrival_ns: int) -> int:
        offset_ns = arrival_ns - pts_ns
        if self._anchor_ns is None or pts_ns < self._last_pts_ns - self._maximum_back_ns:
            self._anchor_ns = offset_ns
        else:
            # A jump forward is like a faster frame: the anchor follows. Late frames never move it, however many there are.
            passed_ns = max(0, arrival_ns - self._last_arrival_ns)
            self._anchor_ns = min(offset_ns, self._anchor_ns + round(passed_ns * self._drift))
        self._last_pts_ns = pts_ns
        self._last_arrival_ns = arrival_ns
        return offset_ns - self._anchor_ns


class FileClock:
    """Capture times of a file, as if its recording had started when it was opened.

    Recorders and `cat` join segments whose timestamps begin anew or leap. There the clock goes on by one interval, and counts a jump.

    Args:
        opened_at_ns: when it was opened, ns since the Unix epoch.
        interval_ns: time between two frames, used for frames without a presentation time, after a jump, and between two passes of a loop.
        maximum_gap_ns: a longer gap between two frames is a jump, where it is also ten times as long as the gaps before.
        maximum_back_ns: presentation times that go back by more than this are a jump; by less, they are out of order.
    """

    def __init__(
        self, opened_at_ns: int, interval_ns: int, *, maximum_gap_ns: int = 10 * NS_PER_S, maximum_back_ns: int = NS_PER_S // 2
    ) -> None:
        self._opened_at_ns = opened_at_ns
        self._interval_ns = interval_ns
        self._maximum_gap_ns = maximum_gap_ns
        self._maximum_back_ns = maximum_back_ns
        self._pass_began_ns = 0
        self._first_pts_ns: int | None = None
        self._last_pts_ns: int | None = None
        self._gap_ns = 0
        self._longest_gap_ns = 0
        self._next_ns = 0
        self.elapsed_ns = 0
        """Time from the file's first frame to the last stamped one."""
        self.jumps = 0
        """Number of places where presentation times went back or leaped."""

    def stamp(self, pts_ns: int | None) -> tuple[int, Clock]:
        """Return the capture time of a frame (ns since the Unix epoch, UTC) and its clock."""
        if pts_ns is None:
            elapsed_ns = self._next_ns
        else:
            if self._is_jump(pts_ns):
                self.jumps += 1
                self._pass_began_ns = self.elapsed_ns + (self._gap_ns or self._interval_ns)
                self._first_pts_ns = pts_ns
            elif self._first_pts_ns is None:
                # This frame follows earlier ones without a presentation time.
                self._first_pts_ns = pts_ns - (self._next_ns - self._pass_began_ns)
            elapsed_ns = self._pass_began_ns + pts_ns - self._first_pts_ns
            self._last_pts_ns = pts_ns
        self.elapsed_ns = max(elapsed_ns, self.elapsed_ns)
        self._next_ns = self.elapsed_ns + self._interval_ns
        return self._opened_at_ns + self.elapsed_ns, "stream"

    def restart(self) -> None:
        """Let the next frame, the file's first again, follow the last one."""
        self._pass_began_ns = self._next_ns
        self._first_pts_ns = self._last_pts_ns = None

    def _is_jump(self, pts_ns: int) -> bool:
        if self._last_pts_ns is None:
            return False
        gap_ns = pts_ns - self._last_pts_ns
        if gap_ns < -min(self._maximum_back_ns, 3 * self._interval_ns):
            return True
        # Judged by the gaps before, not by the average rate: one leap of an hour makes an average of minutes.
        if gap_ns > max(self._maximum_gap_ns, 10 * (self._longest_gap_ns or self._interval_ns)):
            return True
        if gap_ns > 0:
            self._gap_ns, self._longest_gap_ns = gap_ns, max(self._longest_gap_ns, gap_ns)
        return False
