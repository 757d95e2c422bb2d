"""When a picture was taken: pure arithmetic on time-stamps; whoever calls passes the time in."""

from edgepose.frame import Clock

NS_PER_S = 1_000_000_000


class LiveClock:
    """Capture times of a live stream, from the best clock there is.

    `rtcp` where the sender's reports say when the picture was taken; `stream` where there are presentation times: they have no
    network jitter, so the picture that travelled fastest anchors them to the host's clock; `host`, the arrival, where there is
    neither. The first sender report comes seconds after the first picture: times may then step back once, by what the stream
    took to arrive.

    Args:
        maximum_skew_ns: a sender whose clock is further from the host's than this has not set its clock: it is not believed.
        maximum_late_ns: a picture later than this against its presentation time means that the stream jumped: anchored anew.
        drift: how much slower than the host's, as a fraction, the sender's clock may run before its anchor lags behind.
    """

    def __init__(self, *, maximum_skew_ns: int = 10 * NS_PER_S, maximum_late_ns: int = NS_PER_S, drift: float = 200e-6) -> None:
        self._maximum_skew_ns = maximum_skew_ns
        self._maximum_late_ns = maximum_late_ns
        self._drift = drift
        self._anchor_ns: int | None = None
        self._last_arrival_ns = 0

    def stamp(self, pts_ns: int | None, sender_ns: int | None, arrival_ns: int) -> tuple[int, Clock]:
        """Return when a picture was taken (ns since the epoch, UTC) and which clock says so.

        Args:
            pts_ns: presentation time of the picture in its stream, where known.
            sender_ns: when the picture was taken according to the sender's reports, ns since the epoch, where there was one.
            arrival_ns: when the picture arrived, ns since the epoch.
        """
        stream_ns = None if pts_ns is None else pts_ns + self._anchor(pts_ns, arrival_ns)
        if sender_ns is not None and abs(arrival_ns - sender_ns) <= self._maximum_skew_ns:
            return sender_ns, "rtcp"
        if stream_ns is not None:
            return stream_ns, "stream"
        return arrival_ns, "host"

    def _anchor(self, pts_ns: int, arrival_ns: int) -> int:
        offset_ns = arrival_ns - pts_ns
        if self._anchor_ns is None or offset_ns - self._anchor_ns > self._maximum_late_ns:
            self._anchor_ns = offset_ns
        else:
            passed_ns = max(0, arrival_ns - self._last_arrival_ns)
            self._anchor_ns = min(offset_ns, self._anchor_ns + round(passed_ns * self._drift))
        self._last_arrival_ns = arrival_ns
        return self._anchor_ns


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
