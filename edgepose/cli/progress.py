"""The progress line on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressLine:
    """The progress line: a call counts one more.

    Args:
        bar: shows it.
        unit: what is counted, in the plural.
        total: number at the end, None where it is not known.
    """

    def __init__(self, bar: Progress, unit: str, total: int | None) -> None:
        self._bar = bar
        self._unit = unit
        self._task = bar.add_task("", total=total, rate="", unit=unit)

    def __call__(self) -> None:
        """Count one more."""
        self._bar.advance(self._task)
        speed = self._bar.tasks[0].speed
        if speed:
            self._bar.update(self._task, rate=f"{speed:.1f}/s")

    def begin(self, name: str, total: int | None) -> None:
        """Start again at 0, for the next of several things.

        Args:
            name: of the thing; empty where there is only one.
            total: number at the end, None where it is not known: percent and time left are not shown then.
        """
        described = [TextColumn("{task.description}", markup=False)] if name else []
        self._bar.columns = (*described, *_columns(total is not None))
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total, rate="", unit=self._unit)


@contextmanager
def progress(unit: str, *, total: int | None = None, quiet: bool = False) -> Iterator[ProgressLine]:
    """Show a progress line on standard error where that is a terminal; yield what counts one more when it is called.

    Args:
        unit: what is counted, in the plural.
        total: number at the end, None where it is not known.
        quiet: whether to show nothing.
    """
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*_columns(total is not None), console=Console(stderr=True), disable=hidden, transient=True) as bar:
        yield ProgressLine(bar, unit, total)


def _columns(known: bool) -> list[ProgressColumn]:
    columns: list[ProgressColumn] = [
        BarColumn(),
        TextColumn("{task.completed} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    ]
    return [*columns, TaskProgressColumn(), TextColumn("left"), TimeRemainingColumn()] if known else columns
