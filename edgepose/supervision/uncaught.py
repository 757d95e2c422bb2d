"""The last resort for exceptions that end a thread which nobody supervises."""

import logging
import threading
import traceback

from edgepose.supervision.supervised_thread import describe_place

_log = logging.getLogger(__name__)


def log_uncaught() -> None:
    """Log an exception that ends a thread in one line with its place, and not as a traceback on standard error.

    All threads handle what can be expected; this names the fault where one was not. The traceback appears at level debug.
    """

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is SystemExit:
            return
        frames = traceback.extract_tb(arguments.exc_traceback)
        place = describe_place(frames[-1]) if frames else "an unknown place"
        name = arguments.thread.name if arguments.thread is not None else "a thread"
        _log.error("%s ended with an unexpected %s at %s: %s", name, arguments.exc_type.__name__, place, arguments.exc_value)
        if arguments.exc_value is not None:
            _log.debug("traceback", exc_info=arguments.exc_value)

    threading.excepthook = hook
