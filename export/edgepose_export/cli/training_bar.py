"""The progress of a run of training: bars on a terminal, and a line now and then elsewhere."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgepose_export.cli.progress import ProgressLines
from edgepose_export.training.callbacks import TrainingCallbacks, TrainingProgress

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    TimeElapsedColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[status]}"),
)


class TrainingBar(TrainingCallbacks):
    """A bar per phase with speed and losses, and a bar for whatever else takes time; a context manager.

    Args:
        console: where it is drawn.
        hidden: draw nothing.
    """

    def __init__(self, console: Console, *, hidden: bool = False) -> None:
        self._bar = Progress(*_COLUMNS, console=console, disable=hidden or not console.is_terminal, refresh_per_second=2)
        self._lines = None if hidden or console.is_terminal else ProgressLines(console)
        self._tasks: dict[str, TaskID] = {}
        self._hidden = hidden

    def __enter__(self) -> "TrainingBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def task(self, name: str, done: int, total: int) -> None:
        """Show how much of a task is done, and hide it at its end."""
        self._bar.update(self._task(name), completed=done, total=total, visible=done < total)
        if self._lines is not None:
            self._lines.update(name, done, total, f"{done} of {total}")

    def on_start(self, progress: TrainingProgress) -> None:
        """Show the phase."""
        self.on_step(progress)

    def on_step(self, progress: TrainingProgress) -> None:
        """Show the phase's progress, speed and losses."""
        losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items() if value or name != "skipped")
        status = f"{progress.pictures_per_s:.1f} pictures/s {losses}" if progress.losses else ""
        self._bar.update(self._task(progress.phase), completed=progress.done, total=1.0, status=status)
        if self._lines is not None:
            self._lines.update(progress.phase, progress.done, 1.0, f"{progress.done:.0%} {status}".rstrip())

    def on_measure(self, progress: TrainingProgress, ap: float, best: bool) -> None:
        """Print the measurement."""
        if not self._hidden:
            self._bar.console.print(f"{progress.minutes:.1f} minutes, {progress.steps} steps: AP {ap:.4f}{' (best)' if best else ''}")

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=None, status="")
        return self._tasks[name]
