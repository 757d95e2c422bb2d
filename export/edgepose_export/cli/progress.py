"""Progress of commands that take longer than two seconds: bars on a terminal, and a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 10.0


class ProgressLines:
    """Lines about tasks where nothing can be drawn, such as in a log: at the start and the end of a task, and every ten seconds.

    Args:
        console: where they are written.
        clock: monotonic, seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._written_s: dict[str, float] = {}

    def update(self, task: str, done: float, total: float, text: str) -> None:
        """Write a line about a task if one is due; `done` and `total` tell its end."""
        now_s = self._clock()
        if task not in self._written_s or done >= total or now_s - self._written_s[task] >= _LINE_EVERY_S:
            self._written_s[task] = now_s
            self._console.print(f"{task}: {text}", markup=False, highlight=False, soft_wrap=True)
        if done >= total:
            del self._written_s[task]


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show the tasks on standard error; yield a function that takes a task's name, the amount done and the total."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = ProgressLines(console)
        yield lambda name, done, total: lines.update(name, done, total, f"{done} of {total}")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield update
