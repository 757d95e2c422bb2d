"""Signals of the system as events for the main thread."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals() -> Iterator[tuple[threading.Event, Callable[[], str]]]:
    """Turn SIGTERM and SIGINT into an event and its reason; a second signal ends the program immediately."""
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
    """Turn SIGHUP into an event, a request to read the configuration again; the receiver clears it."""
    with _turned(signal.SIGHUP) as hung_up:
        yield hung_up


@contextmanager
def recordings_asked() -> Iterator[threading.Event]:
    """Turn SIGUSR1 into an event, a request for a recording of the black box; the receiver clears it."""
    with _turned(signal.SIGUSR1) as asked:
        yield asked


@contextmanager
def _turned(number: signal.Signals) -> Iterator[threading.Event]:
    received = threading.Event()
    before = signal.signal(number, lambda number, frame: received.set())
    try:
        yield received
    finally:
        signal.signal(number, before)
