"""`edgepose-export make-model`."""

from pathlib import Path

import click
import torch
from rich.console import Console

from edgepose.model.shipped import find_model
from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.data.mix import MixedFolder
from edgepose_export.make_model.pipeline import ModelOptions, ModelSteps
from edgepose_export.shipped import find_recipe
from edgepose_export.training.recipe import load_recipe


@click.command(
    "make-model",
    epilog="Example: edgepose-export make-model ghost-n --teacher rtmdet-nano-person.onnx --data coco-train --evaluate coco-dev "
    "--work runs/ghost-n --companion refine-n",
)
@click.argument("name")
@click.option("--recipe", help="Shipped recipe or YAML file.  [default: the one of NAME]")
@click.option("--teacher", type=click.Path(path_type=Path), help="RTMDet-nano, or for a refiner PP-TinyPose, as ONNX; or a checkpoint.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained checkpoint of the recipe's network: skips its training.")
@click.option("--data", metavar="FOLDER[:SPLIT][@SHARE]", multiple=True, required=True, help="Pictures to train on; repeatable.")
@click.option(
    "--evaluate", type=click.Path(path_type=Path), metavar="FOLDER[:SPLIT]", required=True, help="Other pictures, to measure with."
)
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of the steps' results.")
@click.option("--assets", type=click.Path(path_type=Path), help="Where model files and card go.  [default: WORK/shipped]")
@click.option("--checkpoints", type=click.Path(path_type=Path), help="Where the checkpoint goes.  [default: WORK/shipped]")
@click.option("--companion", metavar="NAME|FILE", help="Other network of the pair: of a refiner its pose network, or the other way.")
@click.option(
    "--train-minutes", type=click.FloatRange(min=0), default=0.0, help="Most minutes of training, over all calls; 0: whole recipe."
)
@click.option("--size", default=320, show_default=True, help="Long side of a pose network's input in pixels.")
@click.option("--trained-on", default="", help="Data sets and teacher, in words, for the files and the card.")
@click.option("--score-pictures", type=click.IntRange(min=0), default=600, show_default=True, help="Pictures for the score; 0 leaves it.")
@click.option("--calibration-pictures", default=200, show_default=True, help="Pictures that calibrate INT8.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Measure on the first pictures only; 0 uses all.")
@click.option("--rounds", type=click.IntRange(min=1), default=40, show_default=True, help="Calls of each file that are timed.")
@click.option("--max-drop", type=click.FloatRange(0, 1), default=0.0, help="AP that the new pair may have less than the one it replaces.")
@click.option("--threads", default=0, help="Threads of the network in training; 0 is one per core.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option("--force", is_flag=True, help="Replace a model of higher AP too.")
def make_model(
    name: str,
    recipe: str | None,
    teacher: Path | None,
    checkpoint: Path | None,
    data: tuple[str, ...],
    evaluate: Path,
    work: Path,
    assets: Path | None,
    checkpoints: Path | None,
    companion: str | None,
    train_minutes: float,
    size: int,
    trained_on: str,
    score_pictures: int,
    calibration_pictures: int,
    limit: int,
    rounds: int,
    max_drop: float,
    threads: int,
    workers: int,
    force: bool,
) -> None:
    """Make the model NAME: ghostify, train, calibrate the score, ONNX, INT8, table, report, gate, card, assets.

    A step whose inputs have not changed is not run again. The gate refuses to replace a file of the assets whose AP is higher.
    """
    torch.set_flush_denormal(True)
    options = ModelOptions(
        name=name,
        recipe=load_recipe(find_recipe(recipe or name)),
        data=[MixedFolder.parse(text) for text in data],
        evaluation=evaluate,
        work=work,
        assets=assets or work / "shipped",
        checkpoints=checkpoints or work / "shipped",
        teacher=teacher,
        checkpoint=checkpoint,
        companion=None if companion is None else find_model(companion),
        train_minutes=train_minutes,
        size=size,
        trained_on=trained_on,
        score_pictures=score_pictures,
        calibration_pictures=calibration_pictures,
        limit=limit,
        rounds=rounds,
        max_drop=max_drop,
        threads=threads,
        workers=workers,
        force=force,
    )
    console = Console(stderr=True)
    with TrainingBar(console) as bar:
        table = ModelSteps(options, report=console.print, progress=bar.task, callbacks=[bar]).run()
    Console().print(table)
