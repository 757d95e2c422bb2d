"""Freshness of a live stream: which frames arrive too late to be used, and when a stream will not catch up; time is passed in."""

from typing import Literal

from edgepose.capture.clock import NS_PER_S

FreshnessState = Literal["fresh", "stale", "behind", "standing"]


class Freshness:
    """A filter that separates late frames from fresh ones, and a backlog that shrinks from one that does not.

    After a stall (of the network, of the camera, of this process) the buffered frames arrive faster than they were captured: late, but
    less and less so. Where a network is slower than its stream, frames arrive later and later; only a new connection discards what is in
    the buffers.

    A stream may also begin with a backlog: frames that arrived while FFmpeg probed it, or that a server keeps for new clients. Their age
    is unknown, so frames are used only once they arrive at the rate of their timestamps.

    Args:
        stale_after_s: frames later than this are stale; 0 disables this.
        patience_s: longest time in which late frames may fail to gain `gain_s`.
        gain_s: by how much late frames have to become less late within that time.
        settle_s: longest time that a stream may take to reach its own rate.
    """

    def __init__(self, stale_after_s: float, *, patience_s: float = 1.0, gain_s: float = 0.1, settle_s: float = 3.0) -> None:
        self._stale_after_ns = round(stale_after_s * NS_PER_S)
        self._patience_ns = round(patience_s * NS_PER_S)
        self._gain_ns = round(gain_s * NS_PER_S)
        self._settle_ns = round(settle_s * NS_PER_S)
        self._first_ns: int | None = None
        self._before: tuple[int, int] | None = None  # timestamp and arrival of the previous frame, until the stream has settled
        self._mark: tuple[int, int, int | None] | None = None  # when late frames last gained, how late they were, their timestamp

    def classify(self, pts_ns: int | None, late_ns: int, arrival_ns: int) -> FreshnessState:
        """Return `fresh`, `stale` (drop the frame), `behind` (later frames will be stale too) or `standing` (timestamps stand still).

        Args:
            pts_ns: presentation time of the frame, where known.
            late_ns: how much later it arrived than the fastest frame (`Stamp.late_ns`).
            arrival_ns: monotonic time of arrival.
        """
        if not self._stale_after_ns:
            return "fresh"
        if pts_ns is not None and self._settle_ns and not self._settled(pts_ns, arrival_ns):
            return "stale"
        if late_ns <= self._stale_after_ns:
            self._mark = None
            return "fresh"
        if self._mark is None or late_ns <= self._mark[1] - self._gain_ns:
            self._mark = (arrival_ns, late_ns, pts_ns)
        elif arrival_ns - self._mark[0] >= self._patience_ns:
            return "standing" if pts_ns == self._mark[2] else "behind"
        return "stale"

    def _settled(self, pts_ns: int, arrival_ns: int) -> bool:
        if self._first_ns is None:
            self._first_ns = arrival_ns
        before, self._before = self._before, (pts_ns, arrival_ns)
        paced = before is not None and pts_ns - before[0] <= 2 * (arrival_ns - before[1])
        if paced or arrival_ns - self._first_ns >= self._settle_ns:
            self._settle_ns = 0
            return True
        return False
