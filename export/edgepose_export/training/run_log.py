"""The written record of a run: `log.csv`, `curve.png`, and event files for TensorBoard by choice."""

from pathlib import Path

from edgepose_export.training import curve
from edgepose_export.training.callbacks import TrainingProgress
from edgepose_export.training.tensorboard import TensorBoardLog


class RunLog:
    """The log of a run in its folder.

    Args:
        output: folder of the run.
        steps: of the checkpoint that the run continues from; later rows belong to steps that are lost. 0 begins a new log.
        tensorboard: write event files too.

    Raises:
        ConfigError: the old log is of another version, or TensorBoard is not installed.
    """

    def __init__(self, output: Path, steps: int, *, tensorboard: bool = False) -> None:
        self._output = output
        self._csv = output / "log.csv"
        if steps:
            curve.keep_until(self._csv, steps)
        else:
            self._csv.unlink(missing_ok=True)
        self._tensorboard = TensorBoardLog(output) if tensorboard else None

    def append(self, progress: TrainingProgress, ap: float | None) -> None:
        """Append a line and redraw the curve; OutputError where a file cannot be written."""
        row: dict[str, object] = {
            "phase": progress.phase,
            "pictures": progress.pictures,
            "steps": progress.steps,
            "minutes": round(progress.minutes, 2),
            "pictures_per_s": round(progress.pictures_per_s, 1) if progress.losses else "",
            "learning_rate": f"{progress.learning_rate:.3g}",
            "losses": {name: value for name, value in progress.losses.items() if name != "skipped"},
            "skipped": round(progress.losses.get("skipped", 0.0), 4),
        }
        if ap is not None:
            row["AP"] = round(ap, 4)
        curve.append(self._csv, row)
        curve.plot(self._csv, self._output / "curve.png")
        if self._tensorboard is not None:
            self._tensorboard.append(row)

    def close(self) -> None:
        """Write what is buffered, and the pictures of the run for TensorBoard."""
        if self._tensorboard is not None:
            for path in sorted(self._output.glob("*.png")):
                self._tensorboard.add_picture(path.stem, path)
            self._tensorboard.close()
