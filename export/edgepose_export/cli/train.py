"""`edgepose-export train`."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import evaluate_callable
from edgepose_export.evaluation.crops import network_crop_accuracy
from edgepose_export.evaluation.network import NetworkPredictor
from edgepose_export.network.model import GhostPose
from edgepose_export.training.recipe import load_recipe
from edgepose_export.training.trainer import Progress as Report
from edgepose_export.training.trainer import Trainer


@click.command(
    epilog="Example: edgepose-export train export/edgepose_export/recipes/ghost-n.yaml --data coco-train --warm-start start.pt "
    "--output runs/ghost-n --minutes 60 --resume"
)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), multiple=True, required=True, help="COCO-format folder; repeatable.")
@click.option("--warm-start", type=click.Path(path_type=Path), required=True, help="Checkpoint written by `edgepose-export ghostify`.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--minutes", default=0.0, help="Stop with a checkpoint after so long; 0 is no limit.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path),
    help="COCO-format folder: measure AP at the end of each phase and every quarter of an hour.",
)
@click.option("--size", default=320, show_default=True, help="Long side of the input for --evaluate.")
@click.option("--threads", default=0, help="Threads of the network on a CPU; 0 is one a core.")
def train(
    recipe: Path,
    data: tuple[Path, ...],
    warm_start: Path,
    output: Path,
    minutes: float,
    resume: bool,
    workers: int,
    evaluate: Path | None,
    size: int,
    threads: int,
) -> None:
    """Train the network of RECIPE, phase by phase."""
    plan = load_recipe(recipe)
    measure = None
    if evaluate is not None:
        pictures = CocoPose([evaluate])

        def measure(network: GhostPose) -> float:
            if network.spec.task == "refine":
                return network_crop_accuracy(network, pictures, plan.phases[-1].sizes[0])
            return evaluate_callable(NetworkPredictor(network, size), pictures).ap

    trainer = Trainer(plan, data, warm_start, output, resume=resume, workers=workers, threads=threads, measure=measure)
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

        def report(progress: Report) -> None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in progress.losses.items() if value or name != "skipped")
            bar.update(
                tasks[progress.phase],
                completed=progress.pictures,
                visible=True,
                status=f"{progress.pictures_per_s:.1f} pictures/s {losses}",
            )

        done = trainer.run(minutes, report)
    console.print("the recipe is done" if done else "time is over; go on with --resume")
