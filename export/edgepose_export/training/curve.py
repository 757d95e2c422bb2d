"""The log of a run: a CSV file, and a plot of it."""

import csv
import itertools
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

COLUMNS = ("phase", "pictures", "steps", "minutes", "pictures_per_s", "learning_rate", "AP", "losses", "skipped")


def append(path: Path, row: dict[str, object]) -> None:
    """Append one line to the CSV at `path`; `losses` is a dictionary, written as `name=value` pairs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    losses = row.get("losses")
    if isinstance(losses, dict):
        row = {**row, "losses": " ".join(f"{name}={value:.5g}" for name, value in losses.items())}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        if new:
            writer.writeheader()
        writer.writerow(row)


def plot(path: Path, image: Path) -> None:
    """Plot losses and AP of the CSV at `path` over minutes of training into a PNG; do nothing if the CSV is empty."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    names = sorted({pair.split("=")[0] for row in rows for pair in row["losses"].split()})
    measured = [(float(row["minutes"]), float(row["AP"])) for row in rows if row["AP"]]
    figure, axes = pyplot.subplots(
        2 if measured else 1, 1, figsize=(9, 7 if measured else 4), sharex=True, squeeze=False, layout="constrained"
    )
    above, below = axes[0, 0], axes[-1, 0]
    for name in names:
        points = [
            (float(row["minutes"]), float(pair.split("=")[1]))
            for row in rows
            for pair in row["losses"].split()
            if pair.startswith(f"{name}=")
        ]
        above.plot(*zip(*points, strict=True), label=name)
    above.set_yscale("log")
    above.set_ylabel("loss (weighted)")
    above.legend(fontsize="small", ncols=2)
    if measured:
        below.set_ylabel("AP of the averaged weights")
        below.plot(*zip(*measured, strict=True), marker="o")
        for minutes, value in measured:
            below.annotate(f"{value:.3f}", (minutes, value), textcoords="offset points", xytext=(0, 6), fontsize="small")
    below.set_xlabel("minutes of training")
    for panel in {above, below}:
        panel.grid(alpha=0.3)
        for earlier, later in itertools.pairwise(rows):
            if earlier["phase"] != later["phase"]:
                panel.axvline(float(later["minutes"]), color="gray", linestyle="--")
    figure.savefig(image, dpi=120)
    pyplot.close(figure)
