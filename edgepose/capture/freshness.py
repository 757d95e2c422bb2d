"""Which pictures of a live stream came too late to be shown, and when waiting for better ones is in vain: pure, time passed in."""

from typing import Literal

from edgepose.capture.clock import NS_PER_S

FreshnessVerdict = Literal["fresh", "stale", "behind", "standing"]


class Freshness:
    """Tells late pictures from fresh ones, and a backlog that shrinks from one that does not.

    After a stall (of the network, of the camera, of ourselves) comes what was buffered meanwhile, faster than it was filmed:
    late, but ever less so. Where a network is slower than its stream, pictures come later and later; there, only what is in
    the buffers has to be thrown away, by connecting anew.

    A stream may also begin with a backlog: what came while FFmpeg found out what it is, or what a server keeps for newcomers.
    How old that is nobody says, so pictures count only when they come at their own pace.

    Args:
        stale_after_s: pictures later than this are stale; 0 for never.
        patience_s: so long may late pictures not become less late.
        gain_s: by how much they have to within that time.
        settle_s: so long may a stream need to find its pace.
    """

    def __init__(self, stale_after_s: float, *, patience_s: float = 1.0, gain_s: float = 0.1, settle_s: float = 3.0) -> None:
        self._stale_after_ns = round(stale_after_s * NS_PER_S)
        self._patience_ns = round(patience_s * NS_PER_S)
        self._gain_ns = round(gain_s * NS_PER_S)
        self._settle_ns = round(settle_s * NS_PER_S)
        self._first_ns: int | None = None
        self._before: tuple[int, int] | None = None  # time-stamp and arrival of the picture before, until the pace is found
        self._mark: tuple[int, int, int | None] | None = None  # when late pictures last gained, how late they were, their time-stamp

    def judge(self, pts_ns: int | None, late_ns: int, arrival_ns: int) -> FreshnessVerdict:
        """Return `fresh`; `stale` (to be dropped); `behind` (so will be those to come); or `readiness`: time-stamps stand still.

        Args:
            pts_ns: presentation time of the picture, where known.
            late_ns: how much later it came than the fastest one (`Stamp.late_ns`).
            arrival_ns: when it came, monotonic.
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
