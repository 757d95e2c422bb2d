"""Programs that run inside of a test's process, and leave it as it was."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_program() -> Iterator[None]:
    """Take back at the end what a program sets up for its whole process: the log, and what happens to uncaught errors."""
    log = logging.getLogger("edgepose")
    handlers, level, propagates = list(log.handlers), log.level, log.propagate
    hooks = (sys.excepthook, sys.unraisablehook, threading.excepthook)
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
        log.handlers[:] = handlers
        log.setLevel(level)
        log.propagate = propagates
