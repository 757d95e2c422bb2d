"""`edgepose-export tune`."""

from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.search.network_search import NetworkSearchOptions, NetworkSearchResult, search_network
from edgepose_export.search.training_search import TuneResult, tune_training
from edgepose_export.training_runs import TrainingOptions


@click.command(
    epilog="Examples: edgepose-export tune ghost-n --data coco-train --evaluate coco-dev --output runs/tune --trials 40; "
    "edgepose-export tune ghost-n --train --data mine --evaluate mine:val --output runs/settings --pictures 2000",
)
@click.argument("checkpoint")
@click.option("--train", "settings", is_flag=True, help="Search for settings of the training instead of a network.")
@click.option("--data", metavar="FOLDER[:SPLIT][@SHARE]", multiple=True, required=True, help="Labeled pictures to train on; repeatable.")
@click.option(
    "--evaluate", type=click.Path(path_type=Path), metavar="FOLDER[:SPLIT]", required=True, help="Other labeled pictures, which decide."
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the study; a second call goes on there.")
@click.option("--trials", default=20, show_default=True, help="Points to measure, those of earlier calls and other processes included.")
@click.option("--pictures", default=1000, show_default=True, help="Length of each training in pictures.")
@click.option("--recipe", help="Recipe of the trainings.  [default: finetune-pruned; with --train that of `train`]")
@click.option(
    "--sizes", type=int, nargs=2, default=(224, 384), show_default=True, help="Smallest and largest long side of the input in pixels."
)
@click.option("--least", default=0.5, show_default=True, help="Smallest share of the multiply-adds that stays when maps are pruned.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Measure on the first pictures only; 0 uses all.")
@click.option("--rounds", default=40, show_default=True, help="Calls of each file that are timed, in turn with CHECKPOINT's.")
@click.option("--confirm", type=click.IntRange(min=0), default=0, help="Train this many points longer at the end, and compare their ranks.")
@click.option("--longer", default=6, show_default=True, help="How many times as long --confirm trains.")
@click.option("--size", default=320, show_default=True, help="With --train: long side of the input in pixels for --evaluate.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option("--threads", default=0, help="Threads of the network in training; 0 is one per core.")
@click.option("--seed", default=0, show_default=True, help="Of the search.")
def tune(
    checkpoint: str,
    settings: bool,
    data: tuple[str, ...],
    evaluate: Path,
    output: Path,
    trials: int,
    pictures: int,
    recipe: str | None,
    sizes: tuple[int, int],
    least: float,
    limit: int,
    rounds: int,
    confirm: int,
    longer: int,
    size: int,
    workers: int,
    threads: int,
    seed: int,
) -> None:
    """Search for a network around CHECKPOINT (a shipped name, such as ghost-n, or a file), or with --train for its training.

    Variants inherit CHECKPOINT's weights: they drop blocks, get Ghost modules, lose maps, and take pictures of another size. Each is
    trained briefly and timed on this machine. The study is an SQLite file: start the same command twice to search with two processes.
    """
    torch.set_flush_denormal(True)
    console = Console(stderr=True)
    with TrainingBar(console) as bar:
        if settings:
            run = TrainingOptions(
                data, checkpoint, output, recipe=recipe, pictures=pictures, workers=workers, evaluate=evaluate, size=size, threads=threads
            )
            _print_settings(tune_training(run, trials=trials, seed=seed, callbacks=[bar], progress=bar.task))
            return
        options = NetworkSearchOptions(
            start=checkpoint, data=data, evaluate=evaluate, output=output, trials=trials, pictures=pictures, sizes=sizes, least=least,
            limit=limit, rounds=rounds, confirm=confirm, longer=longer, recipe=recipe or "finetune-pruned", workers=workers,
            threads=threads, seed=seed,
        )  # fmt: skip
        result = search_network(options, callbacks=[bar], progress=bar.task)
    _print_front(result)
    console.print(f"{output / 'front.png'}, {output / 'trials.json'}, a recipe for each point in {output / 'front'}")


def _print_settings(result: TuneResult) -> None:
    names = list(result.best.settings)
    table = Table("AP", *(name.replace("_", " ") for name in names), "recipe", title="settings of the training")
    for run in result.runs:
        table.add_row(f"{run.ap:.4f}", *(str(run.settings[name]) for name in names), str(run.recipe))
    Console().print(table)


def _print_front(result: NetworkSearchResult) -> None:
    start = result.points[0]
    table = Table("network", "size", "box AP", "AP", "ms", "time", "MMACs", title=f"front of {len(result.points)} points")
    for point in (start, *result.front):
        name = point.structure + (" (start)" if point is start else "")
        figures = (point.box_ap, point.ap, point.time_ms, point.time_ratio)
        table.add_row(name, str(point.size), *(f"{figure:.3f}" for figure in figures), f"{point.multiply_adds / 1e6:.0f}")
    console = Console()
    console.print(table)
    if result.better:
        console.print(f"Faster than the start at no less box AP: {', '.join(point.name for point in result.better)}")
    else:
        console.print("No point is faster than the start at no less box AP.")
    if result.confirmation is not None:
        confirmation = result.confirmation
        console.print(
            f"Rank correlation (Spearman) of {len(confirmation.points)} points with training {confirmation.longer} times as long: "
            f"{'none, all are equal' if confirmation.spearman is None else f'{confirmation.spearman:.2f}'}"
        )
