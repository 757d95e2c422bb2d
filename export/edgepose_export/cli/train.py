"""`edgepose-export train`."""

from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.distributed as dist
from rich.console import Console

from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.mix import MixedFolder
from edgepose_export.data.statistics import statistics_table, swapped_warning, write_label_statistics
from edgepose_export.evaluation.in_training import TrainingMeasure
from edgepose_export.network.checkpoint import NetworkSpec, network_spec
from edgepose_export.network.refiner import RefinerSpec
from edgepose_export.quantization.islands import FLOAT_PLACES, name_lies_in
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.recipe import Recipe, load_recipe, with_length, without_teacher
from edgepose_export.training.trainer import Trainer


@click.command(
    epilog="Examples: edgepose-export train --warm-start ghost-n --data mine --evaluate mine:val --output runs/mine --minutes 10; "
    "edgepose-export train ghost-n --warm-start runs/ghost-n/start.pt --data coco-train --output runs/ghost-n --minutes 60 --resume"
)
@click.argument("recipe", required=False)
@click.option(
    "--data",
    metavar="FOLDER[:SPLIT][@SHARE]",
    multiple=True,
    required=True,
    help="Labeled pictures (our form, COCO or YOLO-pose), with their share of the training pictures, such as synthetic@0.3; repeatable.",
)
@click.option(
    "--warm-start",
    metavar="NAME|FILE",
    required=True,
    help="Checkpoint to start from: a shipped one, such as ghost-n, or one of a run. Where it holds no teacher, it is its own.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Without RECIPE: length of the training, at whose end the learning rate is low. With RECIPE: stop with a checkpoint after "
    "this many minutes.  [default: no limit]",
)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    help="Length of the training in pictures, repeated and changed ones included.  [default: the recipe's]",
)
@click.option("--resume", is_flag=True, help="Continue from the run's last checkpoint.")
@click.option("--labels-only", is_flag=True, help="Learn from labels alone: nothing holds the network to what it knew.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path),
    metavar="FOLDER[:SPLIT]",
    help="Other labeled pictures: measure AP before training, every few minutes, at every stop and at the end.",
)
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels for --evaluate.")
@click.option("--threads", default=0, help="Threads of the network on a CPU; 0 is one per core.")
@click.option(
    "--qat",
    is_flag=True,
    help="Quantization-aware training: layers that `quantize` makes INT8 round as INT8 does; the float start is the teacher.",
)
@click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard too (extra `tensorboard`).")
def train(
    recipe: str | None,
    data: tuple[str, ...],
    warm_start: str,
    output: Path,
    minutes: float,
    pictures: int | None,
    resume: bool,
    labels_only: bool,
    workers: int,
    evaluate: Path | None,
    size: int,
    threads: int,
    qat: bool,
    tensorboard: bool,
) -> None:
    """Train the network of RECIPE (a shipped name, such as ghost-n, or a YAML file), phase by phase.

    Without RECIPE, train the network of --warm-start further, on your own pictures.
    """
    if recipe is None and minutes and pictures:
        raise click.UsageError("--minutes and --pictures are both the length of the training; expected one of them without RECIPE")
    torch.set_flush_denormal(True)  # before any thread starts: it slows a run tenfold once weights become tiny
    start = find_checkpoint(warm_start)
    plan = _recipe(recipe, network_spec(start), labels_only, pictures)
    console = Console(stderr=True)
    with TrainingBar(console, hidden=dist.is_torchelastic_launched() and dist.get_node_local_rank() > 0) as bar:
        measure = None
        if evaluate is not None:
            kept_aside = CocoPose([evaluate], progress=lambda done, total: bar.task("labels to measure with", done, total))
            measure = TrainingMeasure(kept_aside, size, bar.task)
        trainer = Trainer(
            plan,
            [MixedFolder.parse(text) for text in data],
            start,
            output,
            resume=resume,
            length_minutes=minutes if recipe is None else 0.0,
            workers=workers,
            threads=threads,
            measure=measure,
            callbacks=[bar],
            tensorboard=tensorboard,
            integer=_integer_layers(plan.network) if qat else None,
            progress=lambda done, total: bar.task("labels", done, total),
        )
        if not (trainer.rank or trainer.state.steps):
            statistics = write_label_statistics(list(trainer.data), output / "labels.png")
            console.print(statistics_table(statistics, ", ".join(data)))
            if warning := swapped_warning(statistics):
                console.print(f"[bold red]warning:[/] {warning}")
        done = trainer.run(minutes if recipe is not None else 0.0)
        if trainer.rank:
            return
        if measure is not None:
            measure.write_plots(output)
    if not done:
        console.print(f"The time limit is reached; continue with --resume. Checkpoint: {output / 'last.pt'}")
    elif trainer.best.exists():
        console.print(f"The training is complete. {trainer.best} has the best AP, {output / 'last.pt'} the last one.")
    else:
        console.print(f"The training is complete: {output / 'last.pt'}")


def _integer_layers(network: NetworkSpec) -> Callable[[str], bool]:
    """Return a test for the names of the layers that `edgepose-export quantize` makes INT8."""
    places = ("refinement", *FLOAT_PLACES["refine" if isinstance(network, RefinerSpec) else "pose"])
    return lambda name: not name_lies_in(name, places)


def _recipe(name: str | None, network: NetworkSpec, labels_only: bool, pictures: int | None) -> Recipe:
    """Return the recipe of a name or file, or the one for further training of a network."""
    chosen = name or ("finetune-refiner" if isinstance(network, RefinerSpec) else "finetune-pose")
    plan = load_recipe(find_recipe(chosen), network)
    if labels_only:
        plan = without_teacher(plan)
    return plan if pictures is None else with_length(plan, pictures)
