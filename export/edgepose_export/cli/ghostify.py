"""`edgepose-export ghostify`."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edgepose_export.cli.progress import progress_bar
from edgepose_export.make_model.start import make_start
from edgepose_export.network.checkpoint import load_network, parameters_count
from edgepose_export.shipped import find_recipe
from edgepose_export.training.recipe import load_recipe


@click.command(
    epilog="Example: edgepose-export ghostify ghost-n --teacher rtmdet-nano-person.onnx --data coco-train --output runs/ghost-n/start.pt"
)
@click.argument("recipe")
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    required=True,
    help="RTMDet-nano, or for a refiner PP-TinyPose of its size, as ONNX; or a checkpoint.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format folder of calibration pictures; repeatable."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write: student and teacher.")
@click.option("--pictures", default=64, show_default=True, help="Calibration pictures.")
@click.option("--size", default=320, show_default=True, help="Side of the calibration pictures in pixels; a refiner has its own.")
@click.option(
    "--blend", type=click.Path(path_type=Path), help="ONNX file of the teacher's structure, trained further, whose weights to blend in."
)
@click.option("--blend-share", default=0.4, show_default=True, help="Share of --blend in the weights, 0 to 1.")
def ghostify(
    recipe: str,
    teacher: Path,
    data: tuple[Path, ...],
    output: Path,
    pictures: int,
    size: int,
    blend: Path | None,
    blend_share: float,
) -> None:
    """Make the network of RECIPE (a shipped name, such as ghost-n, or a YAML file) from a teacher, without training.

    The layers that the recipe names become Ghost modules in closed form; everything else keeps the teacher's weights.
    """
    plan = load_recipe(find_recipe(recipe))
    with progress_bar() as progress:
        steps = make_start(
            plan.network, teacher, data, output, pictures=pictures, size=size, blend=blend, blend_share=blend_share, progress=progress
        )
    console = Console(stderr=True)
    if steps:
        table = Table("layer", "unexplained variance", title=f"{plan.name}: Ghost modules in closed form")
        for step in steps:
            table.add_row(step.name, f"{step.error:.3f}")
        console.print(table)
    console.print(f"{parameters_count(load_network(output)):,} parameters -> {output}")
