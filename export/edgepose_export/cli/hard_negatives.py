"""`edgepose-export hard-negatives`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose.config import schema
from edgepose.model.shipped import find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.data.hard_negatives import write_hard_negatives
from edgepose_export.evaluation.predictor import EVERYBODY_PEOPLE, EVERYBODY_SCORE, open_predictor


@click.command(
    "hard-negatives",
    epilog="Example: edgepose-export hard-negatives coco-train --output nobody; then edgepose-export train … --data nobody@0.15",
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--model", default="ghost-n", show_default=True, help="Pose network: name of a shipped model, or an ONNX file.")
@click.option("--size", default=0, help="Long side of the model's input in pixels; 0 is the model's own.")
@click.option("--threads", default=0, help="Threads of the network on a CPU; 0 is one per core.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write: boxes, and a link to the pictures.")
def hard_negatives(data: Path, model: str, size: int, threads: int, output: Path) -> None:
    """Collect what a pose network takes for people in DATA (a COCO-format folder), for the training of a refiner."""
    settings = schema.ModelConfig(threads=threads)
    with (
        open_predictor(find_model(model), input_size=size, settings=settings, score=EVERYBODY_SCORE, people=EVERYBODY_PEOPLE) as predictor,
        progress_bar() as progress,
    ):
        count = write_hard_negatives(data, output, predictor, lambda done, total: progress("pictures", done, total))
    Console(stderr=True).print(f"{count} finds that show nobody -> {output}")
