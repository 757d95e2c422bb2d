"""`edgepose-export ghostify`."""

from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from edgepose.errors import ConfigError
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.network.ghostify import GhostifyStep, add_norms, resize
from edgepose_export.network.ghostify import ghostify as make_ghost
from edgepose_export.network.model import GhostPose, load_network, normalize, save_network
from edgepose_export.network.movenet import load_movenet
from edgepose_export.network.spec import NetworkSpec
from edgepose_export.network.streams import align
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.recipe import Recipe, load_recipe


@click.command(
    epilog="Examples: edgepose-export ghostify ghost-n --teacher movenet-multipose-heads.onnx --data coco-train "
    "--output runs/ghost-n/start.pt; with --student ghost-n, training continues from the shipped weights."
)
@click.argument("recipe")
@click.option("--teacher", type=click.Path(path_type=Path), required=True, help="MoveNet MultiPose as ONNX, heads included.")
@click.option(
    "--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format folder of calibration pictures; repeatable."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Checkpoint to write: student and teacher.")
@click.option("--pictures", default=256, show_default=True, help="Calibration pictures.")
@click.option("--batch-norm", is_flag=True, help="Add calibrated batch-norms after the trained convolutions (for large batches).")
@click.option(
    "--student",
    metavar="NAME|FILE",
    help="Trained checkpoint whose weights to take instead of fitting, such as the shipped ghost-n, to train it further. "
    "The recipe may have a larger context, and smaller hidden widths in ghost blocks.",
)
@click.option("--size", default=256, show_default=True, help="Side of the calibration pictures in pixels.")
def ghostify(
    recipe: str, teacher: Path, data: tuple[Path, ...], output: Path, pictures: int, batch_norm: bool, student: str | None, size: int
) -> None:
    """Make the network of RECIPE (a shipped name, such as ghost-n, or a YAML file) from a plain teacher in closed form."""
    plan = load_recipe(find_recipe(recipe))
    spec = plan.network
    original = load_movenet(teacher)
    images = calibration_pictures(plan, CocoPose(data), pictures, size)
    if student is not None:
        trained = load_network(find_checkpoint(student))
        with torch.no_grad():
            align(original, trained, images)
        if trained.spec != spec:
            try:
                trained = resize(trained, original, spec, images)
            except ValueError as error:
                raise ConfigError(f"{student} does not fit recipe {recipe}: {error}") from error
        _write(output, trained, original)
        return
    table = Table("step", "unexplained variance", title=f"{plan.name}: closed-form ghosts")

    def row(step: GhostifyStep) -> None:
        table.add_row(step.name, f"{step.error:.3f}")
        console.print(f"{step.name}: {step.error:.3f}")

    console = Console(stderr=True)
    made, rotated = make_ghost(original, spec, images, row)
    if batch_norm:
        add_norms(made, images, _after_first_ghost(spec))
    _write(output, made, rotated)
    console.print(table)
    console.print(f"{made.parameters_count():,} parameters (teacher {original.parameters_count():,}) -> {output}")


def _write(path: Path, student: GhostPose, teacher: GhostPose) -> None:
    save_network(path, student, teacher={"spec": msgspec.to_builtins(teacher.spec), "state": teacher.state_dict()})


def calibration_pictures(recipe: Recipe, data: CocoPose, count: int, size: int) -> torch.Tensor:
    """Return evenly chosen letterboxed pictures, or a refiner's crops: float (count, 3, size, size) in -1..1."""
    rng = np.random.default_rng(0)
    plans = plans_for(recipe.network, data)
    chosen = np.linspace(0, len(plans) - 1, min(count, len(plans))).astype(int)
    pictures = [paint(data, plans.plan(int(index), size, Augmentation.none(), rng), size) for index in chosen]
    return normalize(torch.from_numpy(np.stack(pictures)))


def _after_first_ghost(spec: NetworkSpec) -> Callable[[str], bool]:
    """Return a test for the trained layers: the block before the first ghost block and everything after it."""
    first = next((index for index, block in enumerate(spec.expanded()) if block.kind == "ghost"), len(spec.expanded()))
    still = ("backbone.stem", *(f"backbone.blocks.{index}." for index in range(first - 1)))
    return lambda name: not name.startswith(still)
