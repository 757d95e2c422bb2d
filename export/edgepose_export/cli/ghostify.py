"""`edgepose-export ghostify`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from edgepose_export.cli.progress import progress_bar
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.network.checkpoint import Network, NetworkSpec, build, parameters_count, save_network
from edgepose_export.network.ghostify import GhostifyStep
from edgepose_export.network.ghostify import ghostify as make_ghost
from edgepose_export.network.layers import add_norms
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.network.rtmdet import load_rtmdet
from edgepose_export.network.tinypose import load_tinypose
from edgepose_export.shipped import find_recipe
from edgepose_export.training.recipe import load_recipe

_BATCH = 16


@click.command(
    epilog="Example: edgepose-export ghostify ghost-n --teacher rtmdet-nano-person.onnx --data coco-train --output runs/ghost-n/start.pt"
)
@click.argument("recipe")
@click.option(
    "--teacher", type=click.Path(path_type=Path), required=True, help="RTMDet-nano, or for a refiner PP-TinyPose of its size, as ONNX."
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
    spec = plan.network
    original, start = _load(teacher, spec), _load(teacher, spec)
    if blend is not None:
        _mix(start, _load(blend, spec), blend_share)
    batches = _batches(original, CocoPose(data), pictures, size)
    table = Table("layer", "unexplained variance", title=f"{plan.name}: Ghost modules in closed form")
    with progress_bar() as report:
        made: Network = start
        if isinstance(start, PoseNetwork) and isinstance(spec, PoseSpec):

            def row(step: GhostifyStep) -> None:
                table.add_row(step.name, f"{step.error:.3f}")
                report("layers", table.row_count, len(spec.ghost))

            made = make_ghost(start, spec.ghost, batches, row)
        student = build(spec)
        student.load_state_dict(made.state_dict())
        student.eval()

    def run() -> None:
        for x in batches():
            student(x)

    add_norms(student, run)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_network(output, student, teacher={"spec": msgspec.to_builtins(original.spec), "state": original.state_dict()})
    console = Console(stderr=True)
    if table.row_count:
        console.print(table)
    console.print(f"{parameters_count(student):,} parameters (teacher {parameters_count(original):,}) -> {output}")


def _load(path: Path, spec: NetworkSpec) -> Network:
    """Load a teacher for a spec: its own structure, with the spec's parts that it lacks."""
    if isinstance(spec, PoseSpec):
        return load_rtmdet(path, msgspec.structs.replace(spec, ghost=(), early_activation="silu", activation="silu"))
    return load_tinypose(path)


def _mix(network: Network, other: Network, share: float) -> None:
    """Move the weights of a network towards those of another that was trained from it.

    Between a network and its own fine-tuned self the weights keep most of what both know (M. Wortsman et al., "Robust fine-tuning of
    zero-shot models", CVPR 2022).
    """
    values = other.state_dict()
    network.load_state_dict(
        {
            name: torch.lerp(value, values[name], share) if value.is_floating_point() else value
            for name, value in network.state_dict().items()
        }
    )


def _batches(network: Network, data: CocoPose, count: int, size: int) -> Callable[[], Iterator[Tensor]]:
    """Return batches of evenly chosen letterboxed pictures, or of a refiner's crops."""
    rng = np.random.default_rng(0)
    plans = plans_for(network.spec, data)
    canvas = size if isinstance(network.spec, PoseSpec) else (network.spec.crop_height, network.spec.crop_width)
    chosen = np.linspace(0, len(plans) - 1, min(count, len(plans))).astype(int)
    pictures = [paint(data, plans.plan(int(index), canvas, Augmentation.none(), rng), canvas) for index in chosen]
    normalized = network.normalize(torch.from_numpy(np.stack(pictures)))
    return lambda: iter(normalized.split(_BATCH))
