"""The progress line on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress(unit: str, *, total: int | None = None, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Show a progress line on standard error where that is a terminal; yield the function that counts one more.

    Args:
        unit: what is counted, in the plural.
        total: number at the end, None where it is not known.
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
