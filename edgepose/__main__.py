"""Entry point of `python -m edgepose` and `edgepose`; it imports little, so that Ctrl-C is handled from the start."""

import os
import signal
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Run the command line and exit with its code."""
    if next((each for each in sys.argv[1:] if not each.startswith("-")), "") == "run":
        _keep_signals_from_killing()
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's job in the background
            signal.signal(signal.SIGINT, _interrupt_once)
        from edgepose.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # what a shell expects of a program that Ctrl-C ended
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the end is near, and a traceback would be all that Ctrl-C adds
    gstreamer = sys.modules.get("edgepose.capture.gstreamer.source")
    if gstreamer is not None:
        gstreamer.stop_all()  # `os._exit` skips exit handlers, and a CSI camera whose pipeline still runs stays occupied
    if any(thread.daemon for thread in threading.enumerate()):
        # Abandoned work continues in native code, which aborts the process when Python shuts down around it. All output has been
        # written, except what these two streams buffer.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # the reader is gone
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _interrupt_once(*_: object) -> None:
    """Interrupt the work; another Ctrl-C ends the program at once, and not with a traceback of what handles the first one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _keep_signals_from_killing() -> None:
    """Survive what a service manager may send before the daemon listens: nothing is open yet.

    SIGHUP and SIGUSR1 need no answer before the configuration is read; SIGTERM ends the program as it ends a running daemon, with 0.
    """
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


if __name__ == "__main__":
    main()
