"""`edgepose-export train`."""

from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgepose_export.data.coco import CocoPose
from edgepose_export.data.mix import MixedFolder
from edgepose_export.evaluation.coco import evaluate_callable
from edgepose_export.evaluation.crops import network_crop_accuracy
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.network.checkpoint import Network
from edgepose_export.network.refiner import RefinerNetwork
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.recipe import load_recipe
from edgepose_export.training.trainer import Trainer, TrainingProgress


@click.command(
    epilog="Example: edgepose-export train ghost-n --data coco-train --warm-start runs/ghost-n/start.pt --output runs/ghost-n "
    "--minutes 60 --resume"
)
@click.argument("recipe")
@click.option(
    "--data",
    metavar="FOLDER[@SHARE]",
    multiple=True,
    required=True,
    help="COCO-format folder, with its share of the training pictures, such as synthetic@0.3; repeatable.",
)
@click.option(
    "--warm-start",
    metavar="NAME|FILE",
    required=True,
    help="Checkpoint to start from. One that `edgepose-export ghostify` wrote holds the teacher too; a shipped one, such as ghost-n, "
    "holds none and suits recipes without distillation.",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--minutes", default=0.0, help="Stop with a checkpoint after this many minutes; 0 is no limit.")
@click.option("--resume", is_flag=True, help="Continue from the run's last checkpoint.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path),
    help="COCO-format folder: measure AP at the end of each phase and every 15 minutes.",
)
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels for --evaluate.")
@click.option("--threads", default=0, help="Threads of the network on a CPU; 0 is one per core.")
def train(
    recipe: str,
    data: tuple[str, ...],
    warm_start: str,
    output: Path,
    minutes: float,
    resume: bool,
    workers: int,
    evaluate: Path | None,
    size: int,
    threads: int,
) -> None:
    """Train the network of RECIPE (a shipped name, such as ghost-n, or a YAML file), phase by phase."""
    torch.set_flush_denormal(True)  # before any thread starts: it slows a run tenfold once weights become tiny
    plan = load_recipe(find_recipe(recipe))
    start = find_checkpoint(warm_start)
    measure = None
    if evaluate is not None:
        pictures = CocoPose([evaluate])

        def measure(network: Network) -> float:
            if isinstance(network, RefinerNetwork):
                return network_crop_accuracy(network, pictures)
            return evaluate_callable(NetworkPredictor(network, size), pictures).ap

    trainer = Trainer(
        plan, [MixedFolder.parse(text) for text in data], start, output, resume=resume, workers=workers, threads=threads, measure=measure
    )
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=console, disable=trainer.rank > 0, refresh_per_second=2) as bar:
        tasks = {phase.name: bar.add_task(phase.name, total=phase.pictures, status="", visible=False) for phase in plan.phases}

        def report(progress: TrainingProgress) -> None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items() if value or name != "skipped")
            bar.update(
                tasks[progress.phase],
                completed=progress.pictures,
                visible=True,
                status=f"{progress.pictures_per_s:.1f} pictures/s {losses}",
            )

        done = trainer.run(minutes, report)
    console.print("The recipe is complete." if done else "The time limit is reached; continue with --resume.")
