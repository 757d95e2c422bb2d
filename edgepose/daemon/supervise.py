"""The run of a daemon, turn by turn, until something ends it."""

import logging
import threading
import time
from collections.abc import Callable

from edgepose.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_TURN_S = 0.1  # how soon the main thread notices that it must stop


def supervise(daemon: Daemon, stop: threading.Event, reason: Callable[[], str], each_turn: Callable[[], None] | None = None) -> None:
    """Run a daemon until `stop` is set, or until it has nothing left to do.

    Args:
        daemon: started.
        stop: set from outside, for example by a signal handler.
        reason: called for the reason when `stop` is set.
        each_turn: called about ten times a second, for example to draw a table.

    Raises:
        EdgeposeError: what ended the work.
    """
    while not stop.wait(_TURN_S) and not daemon.finished():
        daemon.tick(time.monotonic())
        if each_turn is not None:
            each_turn()
    if stop.is_set():
        _log.info("stopping: %s", reason())
        daemon.stop(reason(), patient=False)
    else:
        daemon.stop("all sources have ended", patient=True)
        _log.info("ended: all sources have ended")  # otherwise the failure was raised
