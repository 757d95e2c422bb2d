"""A progress line on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress(unit: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Counts what is done on standard error where that is a terminal; gives the function that counts one.

    Args:
        unit: what is counted, in the plural.
        total: how many there will be, None where nobody knows.
        quiet: whether to show nothing.
    """
    columns = [BarColumn(), TextColumn("{task.completed} " + unit), TextColumn("{task.fields[rate]}"), TimeElapsedColumn()]
    if total is not None:
        columns += [TaskProgressColumn(), TimeRemainingColumn()]
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=hidden, transient=True) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance() -> None:
            bar.advance(task)
            speed = bar.tasks[0].speed
            if speed:
                bar.update(task, rate=f"{speed:.1f}/s")

        yield advance
