"""Tables of what was measured on a machine, and the description of that machine."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from tools.write_reference import with_table


def machine() -> str:
    """Return the processor's name and its number of threads."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} threads"


def core_s(pid: int) -> float:
    """Return the core time of a process, of all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_rows(document: Path, name: str, load: float, rows: list[str]) -> None:
    """Show rows about what was found, and write them as the table of this name.

    Args:
        document: with the table.
        name: of the table.
        load: of the machine before.
        rows: with two columns.
    """
    text = "\n".join([f"Measured on {machine()}, load {load:.1f} at the start.", "", "| what | found |", "|---|---|", *rows])
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), name, text), encoding="utf-8")


def write_parts(document: Path, family: str, parts: Mapping[str, Callable[[Path], list[str]]], only: str | None) -> None:
    """Measure parts one after the other, each in an empty folder, and write each as the table `FAMILY-PART`.

    Args:
        document: with the tables.
        family: of the tables.
        parts: what measures each, and returns its rows.
        only: the part to measure; None for all.
    """
    for name, measure in parts.items():
        if only in (None, name):
            load = os.getloadavg()[0]
            with tempfile.TemporaryDirectory() as folder:
                write_rows(document, f"{family}-{name}", load, measure(Path(folder)))
