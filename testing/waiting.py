"""Waiting for what another thread or process does: with a deadline, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(probe: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.01) -> T:
    """The first true value of `probe`; fails with its last value when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (value := probe()):
        assert time.monotonic() < deadline, f"still {value!r} after {within_s} s"
        time.sleep(every_s)
    return value
