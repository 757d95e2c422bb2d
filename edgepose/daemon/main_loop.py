"""The main thread's loop, from a daemon that was started to its end."""

import logging
import threading
import time
from collections.abc import Callable

from edgepose.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_TURN_S = 0.1  # how soon the main thread notices that it shall stop


def supervise(daemon: Daemon, stop: threading.Event, reason: Callable[[], str], each_turn: Callable[[], None] | None = None) -> None:
    """Runs a daemon until `stop` is set, or until it has nothing left to do.

    Args:
        daemon: started.
        stop: told from outside, a signal handler for example.
        reason: asked for the reason when `stop` is set.
        each_turn: called some ten times a second, to draw a table for example.

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
        daemon.stop("all sources are over", patient=True)
        _log.info("ended: all sources are over")  # otherwise the failure was raised
