"""`edgepose-export calibrate-score`."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from edgepose.errors import ConfigError
from edgepose.model.file import find_model
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.score import calibrate_refiner
from edgepose_export.evaluation.score import calibrate_score as fit_score
from edgepose_export.network.model import load_deployed, save_network


@click.command(
    "calibrate-score",
    epilog="Example: edgepose-export calibrate-score runs/ghost-n/last.pt --data coco-train --output runs/ghost-n/final.pt",
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format training folder; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write, half precision, batch-norms folded.")
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels; of a refiner the side of its crop.")
@click.option("--pictures", default=600, show_default=True, help="How many pictures, evenly chosen.")
@click.option("--first", type=click.Path(path_type=Path), help="For a refiner: the model file whose finds it looks at again.")
def calibrate_score(checkpoint: Path, data: tuple[Path, ...], output: Path, size: int, pictures: int, first: Path | None) -> None:
    """Make the score of CHECKPOINT a probability, and write the network that is exported."""
    network = load_deployed(checkpoint)
    refines = network.spec.task == "refine"
    if refines != (first is not None):
        raise ConfigError(f"{checkpoint} is a {network.spec.task} network: --first is for refiners, and they need it")
    console = Console(stderr=True)
    with Progress(console=console) as bar:
        task = bar.add_task("looking at labeled pictures", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if first is not None:
            weights = calibrate_refiner(network, find_model(str(first)), CocoPose(data), size, limit=pictures, progress=progress)
            bias, score, agreement, confidence = weights
            formula = f"{bias:+.3f} {score:+.3f} logit(first) {agreement:+.3f} agreement {confidence:+.3f} confidence"
        else:
            slope, bias = fit_score(network, CocoPose(data), size, limit=pictures, progress=progress)
            formula = f"{slope:.3f} logit(raw) {bias:+.3f}"
    save_network(output, network, half=True)
    console.print(f"score = sigmoid({formula}) -> {output}")
