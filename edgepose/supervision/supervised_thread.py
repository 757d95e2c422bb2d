"""A thread that survives the death of its work: the work is restarted with backoff, and counted."""

import logging
import sys
import threading
import time
import traceback

from edgepose.errors import EdgeposeError
from edgepose.supervision.backoff import FullJitterBackoff
from edgepose.supervision.heartbeat import Heartbeat

_log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 10.0
_SETTLED_S = 30.0  # work that lasted this long has recovered: the next failure is logged again


class SupervisedThread(threading.Thread):
    """A thread that runs `work` until it returns, and restarts it if it raises.

    An error that `work` raises is an internal fault, or one of a library, since expected failures are handled inside. `work` must
    leave nothing behind that would make the next start fail.

    Args:
        name: of the stage, in logs and health messages.
        bound_s: longest turn of the loop inside (see `Heartbeat`).
        restart: False for work that runs once: then a death ends it, with `failure`.

    Attributes:
        heartbeat: beaten by `work`.
        restarts: deaths so far.
        failure: the error that ended the work permanently, None otherwise.
        ending: set when the work must end soon.
    """

    def __init__(self, name: str, bound_s: float, *, restart: bool = True) -> None:
        super().__init__(name=name, daemon=True)
        self._restart = restart
        self._logged: str | None = None
        self.heartbeat = Heartbeat(bound_s)
        self.restarts = 0
        self.failure: EdgeposeError | None = None
        self.ending = threading.Event()

    def work(self) -> None:
        """Do the work; return when there is no more, and soon after `ending` is set."""
        raise NotImplementedError

    def finish(self) -> None:
        """Clean up after the last `work`."""

    def run(self) -> None:
        """Run the thread."""
        backoff = FullJitterBackoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        try:
            while True:
                began_s = time.monotonic()
                self.heartbeat.beat()
                try:
                    self.work()
                    return
                except Exception as error:
                    if time.monotonic() - began_s > _SETTLED_S:
                        self._logged = None
                        backoff.reset()
                    if not self._died(error):
                        return
                wait_s = backoff.next_s()
                self.heartbeat.beat(wait_s + self.heartbeat.bound_s)
                if self.ending.wait(wait_s):
                    return
        finally:
            self.finish()
            self.heartbeat.end()

    def where(self) -> str:
        """Return the line of code that the thread is at, for the log."""
        frame = sys._current_frames().get(self.ident or 0)
        if frame is None:
            return "nowhere"
        innermost = traceback.extract_stack(frame)[-1]
        return describe_place(innermost)

    def _died(self, error: Exception) -> bool:
        """Record a death; return whether the work restarts."""
        what = f"{self.name} died of an unexpected {type(error).__name__}: {error}"
        debugging = _log.isEnabledFor(logging.DEBUG)
        if not self._restart:
            _log.error("%s", what, exc_info=debugging)
            self.failure = EdgeposeError(what)
            return False
        self.restarts += 1
        if what != self._logged or debugging:  # once for each fault, not once for each failure
            self._logged = what
            _log.error("%s; it is restarted", what, exc_info=debugging)
        return True


def describe_place(frame: traceback.FrameSummary) -> str:
    """Return file, line and function of a stack frame, for the log."""
    return f"{frame.filename.rpartition('/')[2]}:{frame.lineno} in {frame.name}"
