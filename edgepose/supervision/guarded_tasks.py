"""Guarded tasks of the main thread: one that fails does not keep the others from running."""

import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class GuardedTasks:
    """A runner of the tasks of one turn. An error in a task is an internal fault: it ends that task, not the daemon.

    Attributes:
        failures: times that a task began to fail, or failed in another way.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._failing: dict[str, type[Exception]] = {}

    def do(self, name: str, task: Callable[[], object]) -> None:
        """Run one task; its failure is logged once, not at every turn.

        Args:
            name: of the task, in the log.
            task: called without arguments.
        """
        try:
            task()
        except Exception as error:
            debugging = _log.isEnabledFor(logging.DEBUG)
            if self._failing.get(name) is not type(error) or debugging:
                _log.error("%s: unexpected %s: %s; trying again", name, type(error).__name__, error, exc_info=debugging)
            self.failures += self._failing.get(name) is not type(error)
            self._failing[name] = type(error)
            return
        if self._failing.pop(name, None) is not None:
            _log.warning("%s: works again", name)
