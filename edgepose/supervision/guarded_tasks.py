"""What the main thread does at every turn: each part even where another one fails."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class GuardedTasks:
    """Does parts of a turn. What one raises is a fault of ours: it costs that part, not the daemon.

    Attributes:
        failures: times that a part began to fail, or failed in another way.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._failing: dict[str, type[Exception]] = {}

    def do(self, name: str, part: Callable[[], object]) -> None:
        """Does one part; its failure is logged once, not at every turn.

        Args:
            name: what the log calls it.
        """
        try:
            part()
        except Exception as error:
            debugging = _log.isEnabledFor(logging.DEBUG)
            if self._failing.get(name) is not type(error) or debugging:
                _log.error("%s: unexpected %s: %s; trying again", name, type(error).__name__, error, exc_info=debugging)
            self.failures += self._failing.get(name) is not type(error)
            self._failing[name] = type(error)
            return
        if self._failing.pop(name, None) is not None:
            _log.warning("%s: works again", name)
