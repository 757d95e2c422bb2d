"""One row of the fault matrix: the fault, its expected result, and its execution."""

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
    """Return which requirement of all rows is not installed, or None."""
    return missing("mosquitto", "rtsp-server", "ffmpeg")


def network_needed() -> str | None:
    """Return why the daemon cannot have a network of its own here, or None."""
    return network.why_not()


def faketime_needed() -> str | None:
    """Return why the daemon's clock cannot be changed here, or None."""
    return missing("faketime")


def mount_needed() -> str | None:
    """Return why no small disk can be mounted here, or None."""
    return None if os.geteuid() == 0 else "a disk of its own needs root"


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        part: `camera`, `broker` or `daemon`.
        name: a few words.
        did: the fault, for the table.
        must: what must hold besides the criteria of all rows, for the table.
        run: causes the fault in a world that was not started.
        quick: whether it is short enough for every run of the tests.
        spare: whether it is the short form of another row, and superfluous beside it.
        needs: functions that return why the row cannot run here, or None.
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
        """Return why the row cannot run here, or None."""
        return next((reason for need in (servers_needed, *self.needs) if (reason := need()) is not None), None)


@dataclass(frozen=True)
class RowResult:
    """The result of a row, or why it was skipped."""

    row: Row
    findings: Findings
    took_s: float
    skipped: str | None = None

    @property
    def held(self) -> bool:
        """Whether all criteria held."""
        return self.skipped is None and not self.findings.broken


def attempt(row: Row, video: Path, *, patience: float = 1.0, leniency: float = 1.0) -> RowResult:
    """Run a row; every failure in it is a finding.

    Args:
        patience: factor on the duration of the fault.
        leniency: factor on the time to recover.
    """
    began_s = time.monotonic()
    if (reason := row.skipped()) is not None:
        return RowResult(row, Findings(), 0.0, reason)
    with (
        tempfile.TemporaryDirectory(prefix="edgepose-fault-") as folder,
        World(Path(folder), video, patience=patience, leniency=leniency) as world,
    ):
        try:
            row.run(world)
            world.conclude()
        except AssertionError as error:
            world.found.broken.append(str(error))
        except Exception:
            world.found.broken.append(traceback.format_exc())
        return RowResult(row, world.found, time.monotonic() - began_s)
