"""`edgepose-export prune`."""

from pathlib import Path
from typing import cast, get_args

import click
import torch
from rich.console import Console
from rich.table import Table

from edgepose_export.cli.training_bar import TrainingBar
from edgepose_export.network.to_onnx import Card, write_onnx
from edgepose_export.prune_runs import PruneOptions
from edgepose_export.prune_runs import prune as run_prune
from edgepose_export.pruning.scores import Method


@click.command(
    epilog="Example: edgepose-export prune ghost-n --data coco-train --keep 0.7 --pictures 20000 --rounds 2 --output runs/pruned",
)
@click.argument("checkpoint")
@click.option(
    "--data", metavar="FOLDER[:SPLIT][@SHARE]", multiple=True, required=True,
    help="Labeled pictures for scores, fit and fine-tuning; repeatable.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for pruned.pt, pruned.onnx and the rounds.")
@click.option(
    "--method", type=click.Choice(get_args(Method)), default="sensitivity", show_default=True,
    help="What a map is worth by. `gradient` and `activation` measure its effect on pictures, `sensitivity` is both, `magnitude` its"
    " weights, `norm` its scale after `train --sparsity`; `random` is there to compare with.",
)  # fmt: skip
@click.option("--keep", default=0.7, show_default=True, help="Share of the multiply-adds that may remain, 0 to 1.")
@click.option("--multiple", default=8, show_default=True, help="All widths are multiples of this; 16 suits INT8 on tensor cores.")
@click.option("--rounds", default=1, show_default=True, help="Rounds of removal and fine-tuning.")
@click.option(
    "--pictures", type=click.IntRange(min=0), default=20000, show_default=True,
    help="Length of the fine-tuning in pictures, over all rounds; 0 leaves it out.",
)  # fmt: skip
@click.option("--recipe", default="finetune-pruned", show_default=True, help="Recipe of the fine-tuning.")
@click.option("--evaluate", type=click.Path(path_type=Path), metavar="FOLDER[:SPLIT]", help="Other pictures, to measure with.")
@click.option("--size", default=320, show_default=True, help="Side of the pictures in pixels.")
@click.option("--resume", is_flag=True, help="Continue where the run stopped.")
@click.option("--workers", default=1, show_default=True, help="Threads that make batches.")
@click.option("--threads", default=0, help="Threads of the network; 0 is one per core.")
@click.option("--seed", default=0, show_default=True, help="Of --method random.")
def prune(
    checkpoint: str,
    data: tuple[str, ...],
    output: Path,
    method: str,
    keep: float,
    multiple: int,
    rounds: int,
    pictures: int,
    recipe: str,
    evaluate: Path | None,
    size: int,
    resume: bool,
    workers: int,
    threads: int,
    seed: int,
) -> None:
    """Remove the least important maps of the pose network CHECKPOINT (a shipped name, such as ghost-n, or a file).

    What remains is fitted to the full network by least squares, then trained with it as the teacher. The ONNX file is really smaller.
    """
    options = PruneOptions(
        start=checkpoint, data=data, output=output, method=cast(Method, method), keep=keep, multiple=multiple, rounds=rounds,
        pictures=pictures, size=size, recipe=recipe, resume=resume, evaluate=evaluate, workers=workers, threads=threads, seed=seed,
    )  # fmt: skip
    console = Console(stderr=True)
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    with TrainingBar(console) as bar:
        result = run_prune(options, callbacks=[bar], progress=bar.task)
    file = output / "pruned.onnx"
    write_onnx(result.checkpoint, file, Card(file.stem, size))
    table = Table("", "full", "pruned", "share", title=f"{checkpoint} by {method}")
    for name, first, second in (
        ("multiply-adds", result.full_multiply_adds, result.multiply_adds),
        ("parameters", result.full_parameters, result.parameters),
    ):
        table.add_row(name, f"{first:,}", f"{second:,}", f"{second / first:.2f}")
    console.print(table)
    console.print(f"{result.checkpoint}, {file} of {file.stat().st_size:,} bytes")
