"""`edgepose-export pseudo-label`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose.config import schema
from edgepose.model.shipped import find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.data.pseudo_labels import write_pseudo_labels
from edgepose_export.evaluation.predictor import ModelPredictor
from edgepose_export.evaluation.refiner import PictureRefiner


@click.command(
    "pseudo-label",
    epilog="Example: edgepose-export pseudo-label flights --model ghost-n --refiner refine-s --output runs/flights-labeled",
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--model", default="ghost-n", show_default=True, help="Name of a shipped model, or an ONNX file.")
@click.option("--refiner", default="refine-s", show_default=True, help="Name of a shipped refiner, or an ONNX file.")
@click.option("--size", default=0, help="Long side of the model's input in pixels; 0 is the model's own.")
@click.option("--threads", default=0, help="Threads of the networks on a CPU; 0 is one per core.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write: labels, and a link to the pictures.")
def pseudo_label(data: Path, model: str, refiner: str, size: int, threads: int, output: Path) -> None:
    """Label the unlabeled people in DATA (a COCO-format folder), each with the probability that the label is right."""
    settings = schema.ModelConfig(threads=threads)
    opened = PictureRefiner(find_model(refiner), 0, settings)
    with (
        ModelPredictor(find_model(model), input_size=size, settings=settings, refiner=opened) as predictor,
        progress_bar() as progress,
    ):
        added = write_pseudo_labels(data, output, predictor, lambda done, total: progress("pictures", done, total))
    opened.close()
    counts = ", ".join(f"{count} {what}" for what, count in sorted(added.items())) or "nothing"
    Console(stderr=True).print(f"added {counts} -> {output}")
