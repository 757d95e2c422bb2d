"""What a log shows of long commands: a line at the start and the end of each task, and now and then between."""

import io

from rich.console import Console

from edgepose_export.cli.progress import ProgressLines
from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.training.callbacks import TrainingProgress


def test_lines_come_at_the_start_at_the_end_and_every_ten_seconds() -> None:
    written, now_s = io.StringIO(), [0.0]
    lines = ProgressLines(Console(file=written), clock=lambda: now_s[0])
    for done in range(1, 31):
        now_s[0] = float(done)
        lines.update("layers", done, 30, f"{done} of 30")
    lines.update("layers", 1, 2, "1 of 2")  # the same task for another folder
    assert written.getvalue().splitlines() == [f"layers: {text}" for text in ("1 of 30", "11 of 30", "21 of 30", "30 of 30", "1 of 2")]


def test_training_without_a_terminal_writes_lines_too() -> None:
    written = io.StringIO()
    with TrainingBar(Console(file=written)) as bar:
        bar.task("labels", 0, 2)
        bar.task("labels", 2, 2)
        for done in (0.0, 0.5, 1.0):
            bar.on_step(TrainingProgress("fine-tuning", done, 0, 0, 0, 0.0, 8.0, 0.01, {"score": 0.25}))
    assert written.getvalue().splitlines() == [
        "labels: 0 of 2",
        "labels: 2 of 2",
        "fine-tuning: 0% 8.0 pictures/s score 0.250",
        "fine-tuning: 100% 8.0 pictures/s score 0.250",
    ]
    with TrainingBar(Console(file=written), hidden=True) as bar:
        bar.task("labels", 1, 1)
    assert len(written.getvalue().splitlines()) == 4
