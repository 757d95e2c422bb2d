"""Detection of loops that hang: whether the watchdog may be fed, and when the process must end."""

import logging
from collections.abc import Callable, Mapping

from edgepose.errors import EdgeposeError
from edgepose.supervision.heartbeat import Heartbeat, all_progressed

_log = logging.getLogger(__name__)


class StuckError(EdgeposeError):
    """A work loop hangs permanently: only a new process can help."""


class HangDetector:
    """A check of the heartbeats of all loops, several times a second.

    Attributes:
        give_up_after_s: as below; may be set at any time.
    """

    def __init__(self, give_up_after_s: float, where: Callable[[str], str]) -> None:
        """
        Args:
            give_up_after_s: how long a loop may hang beyond the bound of its heartbeat before the process must end.
            where: returns the line of code that a loop is at.
        """
        self.give_up_after_s = give_up_after_s
        self._where = where
        self._since_s: dict[str, float] = {}

    @property
    def stuck(self) -> list[str]:
        """Names of the loops that hang."""
        return list(self._since_s)

    def check(self, heartbeats: Mapping[str, Heartbeat], now_s: float) -> None:
        """Update which loops hang, and log each change once."""
        stuck = {name for name, heartbeat in heartbeats.items() if heartbeat.stuck(now_s)}
        for name in stuck - set(self._since_s):
            self._since_s[name] = now_s
            _log.error("%s is stuck: it has not turned for %.1f s, and is at %s", name, heartbeats[name].bound_s, self._where(name))
        for name in set(self._since_s) - stuck:
            _log.warning("%s turns again after %.1f s", name, now_s - self._since_s.pop(name))

    def all_is_well(self, working: Mapping[str, Heartbeat], now_s: float) -> bool:
        """Return whether all work loops have progressed since this last returned True, and none hangs."""
        return not any(name in self._since_s for name in working) and all_progressed(working, now_s)

    def hopeless(self, working: Mapping[str, Heartbeat], now_s: float) -> StuckError | None:
        """Return the error that ends the daemon where a work loop has hung for too long, else None."""
        for name, since_s in self._since_s.items():
            if name in working and now_s - since_s > self.give_up_after_s:
                return StuckError(f"{name} hangs at {self._where(name)} and does not recover; the daemon exits to be restarted")
        return None
