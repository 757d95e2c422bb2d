"""The rate of requests of one address: those that come too fast wait for their turn, so that a flood takes little of the daemon's time."""

from collections import OrderedDict
from collections.abc import Callable

from edgepose.web.accounts.file import now_s
from edgepose.web.accounts.throttle import network_of

RATE_HZ, BURST = 10.0, 100
"""Requests of an address in a second, and those that may come at once: a page with all its files is a dozen."""

LONGEST_S = 10.0
"""Longest wait; further requests are refused."""

_ENTRIES = 10_000


class RequestRates:
    """The turns of addresses; used by one thread (generic cell rate algorithm)."""

    def __init__(self, clock: Callable[[], float] = now_s) -> None:
        self._clock = clock
        self._next_s: OrderedDict[str, float] = OrderedDict()  # when an address has its next turn without any burst

    def is_full(self, address: str) -> bool:
        """Return whether as many requests of an address wait as may, so that it need not be asked for another one."""
        return self._next_s.get(network_of(address), 0.0) - self._clock() - BURST / RATE_HZ > LONGEST_S

    def take(self, address: str) -> float | None:
        """Return how long a request has to wait, seconds; None where too many wait already."""
        present_s = self._clock()
        key = network_of(address)
        turn_s = max(present_s, self._next_s.pop(key, 0.0))
        wait_s = turn_s - present_s - BURST / RATE_HZ
        self._next_s[key] = turn_s if wait_s > LONGEST_S else turn_s + 1 / RATE_HZ
        while len(self._next_s) > _ENTRIES:
            self._next_s.popitem(last=False)
        return None if wait_s > LONGEST_S else max(0.0, wait_s)
