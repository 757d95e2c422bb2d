"""Waits for what another thread or process does: for a condition, never for a fixed time, and at any speed of the machine."""

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 6.0
"""How many times its deadline a condition may take before a test gives up: a machine with other work to do is that slow at times, and
a condition that comes true costs no more of it."""

_SLOWEST = 8.0
_PROBE_S = 0.02


def wait_for(probe: Callable[[], T], *, within_s: float = 10.0, every_s: float = 0.01, promised_s: float | None = None) -> T:
    """Return the first true value of `probe`; fail with its last value when there is none in time.

    Args:
        probe: is called again and again.
        within_s: seconds that an idle machine needs at most; the test gives up after `PATIENCE` times that.
        every_s: seconds between calls.
        promised_s: where the product promises the condition by then, the seconds that `in_time` holds the wait to.
    """
    began_s = time.monotonic()
    patience_s = PATIENCE * (within_s if promised_s is None else promised_s)
    while not (value := probe()):
        assert time.monotonic() - began_s < patience_s, f"still {value!r} after {patience_s:g} s"
        time.sleep(every_s)
    took_s = time.monotonic() - began_s
    assert promised_s is None or in_time(took_s, promised_s), f"{value!r} only after {took_s:.1f} s, expected {promised_s:g} at most"
    return value


def wait_for_port(
    process: "subprocess.Popen[bytes]", port: int, log: Path | None = None, *, within_s: float = 10.0, address: str = "127.0.0.1"
) -> None:
    """Wait until a server listens on a port of this machine; fail with the end of its log where its process ends before.

    Args:
        process: of the server.
        log: what it writes, where that is kept.
        within_s: as in `wait_for`.
        address: of this machine.
    """

    def listens() -> bool:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            assert process.poll() is None, f"{process.args!r} did not start: {log.read_text()[-3000:] if log is not None else 'no log'}"
            return False
        return True

    wait_for(listens, within_s=within_s, every_s=0.02)


def slowness() -> float:
    """Return how many times longer work takes now than on an idle machine, from 1 to 8.

    Measured twice, and the larger counts: by the wall time of some milliseconds of processor time, and by the load of the last minute.
    """
    ratios = []
    for _ in range(5):
        began_s, worked_s = time.monotonic(), time.thread_time()
        while time.thread_time() - worked_s < _PROBE_S:
            pass
        ratios.append((time.monotonic() - began_s) / _PROBE_S)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(_SLOWEST, max(1.0, sum(ratios) / len(ratios), 2 * load))


def in_time(took_s: float, promised_s: float, at_most_s: float = float("inf")) -> bool:
    """Return whether something took no longer than the product promises, or than that times the slowness of the machine.

    Args:
        took_s: what was measured just now.
        promised_s: what an idle machine keeps.
        at_most_s: what no machine may reach, since the fault that the test looks for takes that long.
    """
    return took_s < promised_s or took_s < min(promised_s * slowness(), at_most_s)
