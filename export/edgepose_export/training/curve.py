"""The log of a run: a CSV file, and a plot of it."""

import csv
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from edgepose.errors import ConfigError, OutputError

matplotlib.use("Agg")
from matplotlib import pyplot

COLUMNS = ("phase", "pictures", "steps", "minutes", "pictures_per_s", "learning_rate", "AP", "losses", "skipped")

_Row = Mapping[str, str]


def append(path: Path, row: dict[str, object]) -> None:
    """Append one line to the CSV at `path`; `losses` is a dictionary, written as `name=value` pairs.

    Raises:
        OutputError: the file cannot be written.
    """
    losses = row.get("losses")
    if isinstance(losses, dict):
        row = {**row, "losses": " ".join(f"{name}={value:.5g}" for name, value in losses.items())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            if new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise OutputError(f"log {path} cannot be written: {error.strerror or error}") from error


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of the CSV at `path`.

    Raises:
        ConfigError: the file is not such a log.
    """
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values()]  # the last line is torn where the power failed
    if missing := set(COLUMNS) - set(reader.fieldnames or ()):
        raise ConfigError(f"log {path} has no column {', '.join(sorted(missing))}; expected a log of this version, or a new run")
    return rows


def keep_until(path: Path, steps: int) -> None:
    """Drop the rows after `steps`, and torn ones, of the CSV at `path`; a run that was killed repeats their steps. A missing file stays so.

    Raises:
        ConfigError: the file is not such a log.
        OutputError: the file cannot be written.
    """
    if not path.exists():
        return
    kept = [row for row in read(path) if int(row["steps"]) <= steps]
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(kept)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"log {path} cannot be written: {error.strerror or error}") from error


def plot(path: Path, image: Path) -> None:
    """Plot the CSV at `path` over minutes of training into a PNG: AP, losses, learning rate, speed; do nothing if the CSV is empty.

    Every AP of the log is in the plot; a dotted line repeats the first one, from before training. Dashed lines separate phases.

    Raises:
        ConfigError: the file is not such a log.
        OutputError: the PNG cannot be written.
    """
    rows = read(path)
    if not rows:
        return
    measured = any(row["AP"] for row in rows)
    panels: list[tuple[Callable[[Any, Sequence[_Row]], None], float]] = [(_plot_losses, 3.0), (_plot_rates, 1.5)]
    if measured:
        panels.insert(0, (_plot_ap, 3.0))
    heights = [height for _, height in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(9, sum(heights) + 0.6), sharex=True, squeeze=False, layout="constrained", height_ratios=heights
    )
    for axis, (draw, _) in zip(axes[:, 0], panels, strict=True):
        draw(axis, rows)
        axis.grid(alpha=0.3)
        for earlier, later in itertools.pairwise(rows):
            if earlier["phase"] != later["phase"]:
                axis.axvline(float(earlier["minutes"]), color="gray", linestyle="--")
    axes[-1, 0].set_xlabel("minutes of training")
    try:
        figure.savefig(image, dpi=120)
    except OSError as error:
        raise OutputError(f"plot {image} cannot be written: {error.strerror or error}") from error
    finally:
        pyplot.close(figure)


def losses_of(row: _Row) -> dict[str, float]:
    """Return the losses of a row of the log by name."""
    return {name: float(value) for name, _, value in (pair.partition("=") for pair in row["losses"].split())}


def _plot_ap(axis: Any, rows: Sequence[_Row]) -> None:
    measured = [(float(row["minutes"]), float(row["AP"])) for row in rows if row["AP"]]
    axis.set_ylabel("AP of the averaged weights")
    axis.plot(*zip(*measured, strict=True), marker="o", color="tab:blue")
    axis.axhline(measured[0][1], color="tab:blue", linestyle=":", alpha=0.6)
    best = max(value for _, value in measured)
    step = -(-len(measured) // 12)  # more numbers would cover one another
    for index, (minutes, value) in enumerate(measured):
        if index % step == 0 or value == best or index == len(measured) - 1:
            weight = "bold" if value == best else "normal"
            axis.annotate(
                f"{value:.3f}", (minutes, value), textcoords="offset points", xytext=(0, 6), ha="center", fontsize="small", weight=weight
            )
    axis.margins(y=0.2)


def _plot_losses(axis: Any, rows: Sequence[_Row]) -> None:
    losses = [(float(row["minutes"]), losses_of(row)) for row in rows]
    names = sorted({name for _, values in losses for name in values})
    for name in names:
        points = [(minutes, values[name]) for minutes, values in losses if name in values]
        axis.plot(*zip(*points, strict=True), label=name, marker="." if len(points) == 1 else None)
    axis.set_ylabel("loss (weighted)")
    if names:
        axis.set_yscale("log")
        axis.legend(fontsize="small", ncols=2)


def _plot_rates(axis: Any, rows: Sequence[_Row]) -> None:
    """Plot the learning rate, and the pictures a second on the right axis."""
    rated = [(float(row["minutes"]), float(row["learning_rate"])) for row in rows if row["learning_rate"]]
    timed = [(float(row["minutes"]), float(row["pictures_per_s"])) for row in rows if row["pictures_per_s"]]
    if rated:
        axis.plot(*zip(*rated, strict=True), color="tab:green", marker="." if len(rated) == 1 else None)
    axis.set_ylabel("learning rate", color="tab:green")
    axis.set_ylim(bottom=0)
    other = axis.twinx()
    if timed:
        other.plot(*zip(*timed, strict=True), color="tab:purple", marker="." if len(timed) == 1 else None)
    other.set_ylabel("pictures/s", color="tab:purple")
    other.set_ylim(bottom=0)
