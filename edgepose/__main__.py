"""`python -m edgepose` is `edgepose`. Here is little to load, so that a ctrl-c finds a handler from the start."""

import os
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Entry point of the console script."""
    try:
        from edgepose.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # what a shell expects of a program that ctrl-c ended
    readers = sys.modules.get("edgepose.capture.gstreamer.source")
    if readers is not None:
        readers.stop_all()  # `os._exit` asks nobody, and a CSI camera whose pipeline runs on stays taken
    if any(thread.daemon for thread in threading.enumerate()):
        # Work that was abandoned goes on in native code, which aborts the process when Python clears up around it. All that was to be
        # said and written is, but for what these two hold.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # nobody reads it any more
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
