"""`edgepose-export calibrate-score`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose.errors import ConfigError
from edgepose.model.shipped import find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.score import calibrate_refiner
from edgepose_export.evaluation.score import calibrate_score as fit_score
from edgepose_export.network.checkpoint import load_deployed, save_network
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.network.refiner import RefinerNetwork
from edgepose_export.shipped import find_checkpoint


@click.command(
    "calibrate-score",
    epilog="Example: edgepose-export calibrate-score runs/ghost-n/last.pt --data coco-train --output runs/ghost-n/final.pt",
)
@click.argument("checkpoint")
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format training folder; repeatable.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write: half precision, batch-norms folded.")
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels; a refiner has its own.")
@click.option("--pictures", default=600, show_default=True, help="Number of pictures, evenly chosen.")
@click.option("--first", metavar="NAME|FILE", help="For a refiner: the model of the first stage, whose people it refines.")
def calibrate_score(checkpoint: str, data: tuple[Path, ...], output: Path, size: int, pictures: int, first: str | None) -> None:
    """Make the score of CHECKPOINT (a shipped name or a file) a probability, and write the network to export."""
    path = find_checkpoint(checkpoint)
    network = load_deployed(path)
    refines = isinstance(network, RefinerNetwork)
    if refines != (first is not None):
        kind = "a refiner" if refines else "a pose network"
        raise ConfigError(f"{path} is {kind}; --first is required for refiners and accepted for nothing else")
    with progress_bar() as report:

        def progress(done: int, total: int) -> None:
            report("labeled pictures", done, total)

        if isinstance(network, RefinerNetwork) and first is not None:
            weights = calibrate_refiner(network, find_model(first), CocoPose(data), limit=pictures, progress=progress)
            bias, product, agreement = weights
            formula = f"{bias:+.3f} {product:+.3f} logit(first score x confidence) {agreement:+.3f} agreement"
        else:
            assert isinstance(network, PoseNetwork)
            slope, bias = fit_score(network, CocoPose(data), size, limit=pictures, progress=progress)
            formula = f"{slope:.3f} logit(raw) {bias:+.3f}"
    save_network(output, network, half=True)
    Console(stderr=True).print(f"score = sigmoid({formula}) -> {output}")
