"""`edgepose-export calibrate-score`."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from export.data.coco import CocoPose
from export.evaluation.score import calibrate_score as fit_score
from export.network.model import load_deployed, save_network


@click.command(
    "calibrate-score",
    epilog="Example: edgepose-export calibrate-score runs/ghost-n/last.pt --data coco-train --output runs/ghost-n/final.pt",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format training folder; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write, half precision, batch-norms folded.")
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels.")
@click.option("--pictures", default=600, show_default=True, help="How many pictures, evenly chosen.")
def calibrate_score(checkpoint: Path, data: tuple[Path, ...], output: Path, size: int, pictures: int) -> None:
    """Make the score of CHECKPOINT a probability, and write the network that is exported."""
    network = load_deployed(checkpoint)
    console = Console(stderr=True)
    with Progress(console=console) as bar:
        task = bar.add_task("looking at labelled pictures", total=None)
        slope, bias = fit_score(
            network, CocoPose(data), size, limit=pictures, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    save_network(output, network, half=True)
    console.print(f"score = sigmoid({slope:.3f} logit(raw) {bias:+.3f}) -> {output}")
