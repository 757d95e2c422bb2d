"""Description of the machine that a measurement ran on."""

import os
from pathlib import Path

import click

from tools.write_reference import with_table


def machine() -> str:
    """Return the processor's name and its number of threads."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} threads"


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
