"""What the system tells a process, as events for the main thread."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals() -> Iterator[tuple[threading.Event, Callable[[], str]]]:
    """Turns SIGTERM and SIGINT into an event and its reason; a second signal ends the program at once."""
    stop = threading.Event()
    received: list[str] = []

    def handle(number: int, _: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield stop, lambda: f"received {received[0]}" if received else "stopped on request"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hang_ups() -> Iterator[threading.Event]:
    """Turns SIGHUP into an event: the configuration is to be read anew. Whoever waits for it clears it."""
    hung_up = threading.Event()
    before = signal.signal(signal.SIGHUP, lambda number, frame: hung_up.set())
    try:
        yield hung_up
    finally:
        signal.signal(signal.SIGHUP, before)
