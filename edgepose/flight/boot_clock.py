"""Times since the start of a vehicle as times of this machine, also where packets are late, reordered or of an earlier start."""

from dataclasses import dataclass

from edgepose.frame import NS_PER_S

_LATE_NS = NS_PER_S  # a packet that is later than this says nothing about the clock
_EARLY_NS = NS_PER_S  # no path through a network becomes faster by more
_BACK_NS = 2 * NS_PER_S  # packets overtake one another by less
_CONFIRMED_BY = 3
_CONFIRMED_IN_NS = NS_PER_S // 2
_DRIFT = 200e-6


@dataclass(slots=True)
class _OtherStart:
    """Packets in a row that agree with one another but not with the clock."""

    offset_ns: int
    first_arrival_ns: int
    packets: int = 1


class BootClock:
    """The clock of a vehicle that counts from its start, on this machine's monotonic clock.

    The packet that traveled fastest anchors it. A packet whose time does not fit may be late, or of an earlier start; the vehicle has
    started again only if several in a row say so, for half a second. Until then such packets have no time.

    Attributes:
        restarts: times that the vehicle has started again.
    """

    def __init__(self) -> None:
        self.restarts = 0
        self._offset_ns: int | None = None
        self._latest_boot_ns = 0
        self._arrival_ns = 0
        self._other: _OtherStart | None = None

    def time_ns(self, boot_ns: int, arrival_ns: int) -> tuple[int | None, bool]:
        """Return the time of a packet on the monotonic clock, and whether all that was known before is of an earlier start.

        Args:
            boot_ns: nanoseconds since the start of the vehicle.
            arrival_ns: monotonic clock at arrival.

        Returns:
            None as the time of a packet that does not fit.
        """
        offset_ns = arrival_ns - boot_ns
        if self._offset_ns is None:
            self._begin(boot_ns, offset_ns, arrival_ns)
            return arrival_ns, False
        late = offset_ns > self._offset_ns + _LATE_NS
        # A vehicle that ran for seconds only before it started again counts no less than before, but less than the silence took.
        went_back = boot_ns < self._latest_boot_ns - _BACK_NS or (late and boot_ns < arrival_ns - self._arrival_ns)
        if offset_ns >= self._offset_ns - _EARLY_NS and not went_back:
            if not late:
                drifted_ns = round(max(0, arrival_ns - self._arrival_ns) * _DRIFT)
                self._offset_ns = min(offset_ns, self._offset_ns + drifted_ns)
                self._arrival_ns = arrival_ns
            self._latest_boot_ns = max(self._latest_boot_ns, boot_ns)
            self._other = None
            return boot_ns + self._offset_ns, False
        if not self._confirmed(offset_ns, arrival_ns):
            return None, False
        self.restarts += went_back
        self._begin(boot_ns, offset_ns, arrival_ns)
        return arrival_ns, True

    def _begin(self, boot_ns: int, offset_ns: int, arrival_ns: int) -> None:
        self._offset_ns, self._latest_boot_ns, self._arrival_ns, self._other = offset_ns, boot_ns, arrival_ns, None

    def _confirmed(self, offset_ns: int, arrival_ns: int) -> bool:
        other = self._other
        if other is None or abs(offset_ns - other.offset_ns) > _EARLY_NS:
            self._other = _OtherStart(offset_ns, arrival_ns)
            return False
        other.packets += 1
        other.offset_ns = min(other.offset_ns, offset_ns)
        return other.packets >= _CONFIRMED_BY and arrival_ns - other.first_arrival_ns >= _CONFIRMED_IN_NS
