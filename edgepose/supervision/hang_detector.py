"""Who hangs, whether the service manager may be told that all is well, and when it is time to give up."""

import logging
from collections.abc import Callable, Mapping

from edgepose.errors import EdgeposeError
from edgepose.supervision.heartbeat import Heartbeat, all_progressed

_log = logging.getLogger(__name__)


class StuckError(EdgeposeError):
    """A work loop hangs and cannot be helped: only a new process can."""


class HangDetector:
    """Looks at the pulses of all loops, several times a second.

    Attributes:
        give_up_after_s: as below; may be set at any time.
        stuck: names of the loops that hang now.
    """

    def __init__(self, give_up_after_s: float, where: Callable[[str], str]) -> None:
        """
        Args:
            give_up_after_s: how long a loop may hang, beyond the bound of its pulse, before there is no hope.
            where: tells the line of code that a loop is at.
        """
        self.give_up_after_s = give_up_after_s
        self._where = where
        self._since_s: dict[str, float] = {}

    @property
    def stuck(self) -> list[str]:
        """Names of the loops that hang now."""
        return list(self._since_s)

    def look(self, heartbeats: Mapping[str, Heartbeat], now_s: float) -> None:
        """Notes, and logs once each, who hangs and who has come to again."""
        stuck = {name for name, heartbeat in heartbeats.items() if heartbeat.stuck(now_s)}
        for name in stuck - set(self._since_s):
            self._since_s[name] = now_s
            _log.error("%s is stuck: it has not turned for %.1f s, and is at %s", name, heartbeats[name].bound_s, self._where(name))
        for name in set(self._since_s) - stuck:
            _log.warning("%s turns again after %.1f s", name, now_s - self._since_s.pop(name))

    def all_is_well(self, working: Mapping[str, Heartbeat], now_s: float) -> bool:
        """Whether all work loops have turned since this last said yes, and none hangs."""
        return not any(name in self._since_s for name in working) and all_progressed(working, now_s)

    def hopeless(self, working: Mapping[str, Heartbeat], now_s: float) -> StuckError | None:
        """What ends the daemon: a work loop that has hung for too long; None while there is hope."""
        for name, since_s in self._since_s.items():
            if name in working and now_s - since_s > self.give_up_after_s:
                return StuckError(f"{name} hangs at {self._where(name)} and does not come back; the daemon ends, to be started anew")
        return None
