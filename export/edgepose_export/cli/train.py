"""`edgepose-export train`."""

from pathlib import Path

import click
import torch.distributed as dist
from rich.console import Console

from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.data.statistics import LabelStatistics, statistics_table, swapped_warning
from edgepose_export.training_runs import TrainingOptions, run_training


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
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Better network that the trained one is held to: a checkpoint, or RTMDet-nano or PP-TinyPose as ONNX.  [default: that of"
    " --warm-start]",
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
@click.option(
    "--sparsity",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Weight of a term that pushes the scales of batch-norms to zero, for `prune --method norm`, such as 0.001; 0 leaves it out.",
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
    teacher: Path | None,
    output: Path,
    minutes: float,
    pictures: int | None,
    resume: bool,
    sparsity: float,
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
    console = Console(stderr=True)
    options = TrainingOptions(
        data=data,
        warm_start=warm_start,
        teacher=teacher,
        output=output,
        recipe=recipe,
        minutes=minutes,
        pictures=pictures,
        resume=resume,
        labels_only=labels_only,
        sparsity=sparsity,
        workers=workers,
        evaluate=evaluate,
        size=size,
        threads=threads,
        qat=qat,
        tensorboard=tensorboard,
    )

    def describe(statistics: LabelStatistics) -> None:
        console.print(statistics_table(statistics, ", ".join(data)))
        if warning := swapped_warning(statistics):
            console.print(f"[bold red]warning:[/] {warning}")

    with TrainingBar(console, hidden=dist.is_torchelastic_launched() and dist.get_node_local_rank() > 0) as bar:
        result = run_training(options, callbacks=[bar], progress=bar.task, describe=describe)
    if result is None:
        return
    if not result.complete:
        console.print(f"The time limit is reached; continue with --resume. Checkpoint: {result.last}")
    elif result.best is not None:
        console.print(f"The training is complete. {result.best} has the best AP, {result.last} the last one.")
    else:
        console.print(f"The training is complete: {result.last}")
