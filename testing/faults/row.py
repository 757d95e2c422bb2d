"""One row of the fault matrix: what is done, what must hold, and how it is tried."""

import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testing.faults import network
from testing.faults.world import Findings, World
from testing.requirements import missing


def servers_needed() -> str | None:
    """Return what no fault can be tried without and is not installed, or None."""
    return missing("mosquitto", "rtsp-server", "ffmpeg")


def network_needed() -> str | None:
    """Why no network of the daemon's own can be had here, or None."""
    return network.why_not()


def faketime_needed() -> str | None:
    """Why the daemon's clock cannot be turned here, or None."""
    return missing("faketime")


def mount_needed() -> str | None:
    """Why no small disk can be made here, or None."""
    return None if os.geteuid() == 0 else "a disk of its own needs root"


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        part: `camera`, `broker` or `daemon`.
        name: a few words.
        did: what was done, for the table.
        must: what must hold beyond the bars that hold for all, for the table.
        run: does it to a world that was not started.
        quick: whether it is short enough for every run of the tests.
        spare: whether it is the short form of another row, of no use beside it.
        needs: each says why the row cannot be tried here, or None.
    """

    part: str
    name: str
    did: str
    must: str
    run: Callable[[World], None]
    quick: bool = False
    spare: bool = False
    needs: Sequence[Callable[[], str | None]] = ()

    @property
    def title(self) -> str:
        """Part and name."""
        return f"{self.part}: {self.name}"

    def skipped(self) -> str | None:
        """Why it cannot be tried here, or None."""
        return next((reason for need in (servers_needed, *self.needs) if (reason := need()) is not None), None)


@dataclass(frozen=True)
class Outcome:
    """What came of a row that was tried, or why it was not."""

    row: Row
    findings: Findings
    took_s: float
    skipped: str | None = None

    @property
    def held(self) -> bool:
        """Whether all held."""
        return self.skipped is None and not self.findings.broken


def attempt(row: Row, film: Path, *, patience: float = 1.0, leniency: float = 1.0) -> Outcome:
    """Tries a row; whatever goes wrong in it is a finding.

    Args:
        patience: holds the fault so many times as long.
        leniency: allows so many times as long to come back.
    """
    began_s = time.monotonic()
    if (reason := row.skipped()) is not None:
        return Outcome(row, Findings(), 0.0, reason)
    with (
        tempfile.TemporaryDirectory(prefix="edgepose-fault-") as folder,
        World(Path(folder), film, patience=patience, leniency=leniency) as world,
    ):
        try:
            row.run(world)
            world.conclude()
        except AssertionError as error:
            world.found.broken.append(str(error))
        except Exception:
            world.found.broken.append(traceback.format_exc())
        return Outcome(row, world.found, time.monotonic() - began_s)
