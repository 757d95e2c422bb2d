"""`edgepose-export synth`."""

from pathlib import Path

import click
from rich.console import Console

from edgepose_export.cli.progress import progress_bar
from edgepose_export.synth.bodies import cache_exists
from edgepose_export.synth.dataset import labels_hash, write_dataset
from edgepose_export.synth.pictures import Plan
from edgepose_export.synth.views import SPLITS, Split


@click.command(epilog="Example: edgepose-export synth --count 1000 --seed 1 --backgrounds photos --output runs/synthetic")
@click.option("--count", type=click.IntRange(min=1), required=True, help="Pictures in the folder when it is complete.")
@click.option("--seed", type=click.IntRange(min=0), required=True, help="The same seed gives the same labels.")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="Folder to write; an interrupted run continues in it.")
@click.option("--split", type=click.Choice(SPLITS), default="train", show_default=True, help="eval shares no people and no backgrounds.")
@click.option(
    "--backgrounds",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder of photographs without people, or in COCO layout (its pictures with people are left out); repeatable.",
)
@click.option("--size", type=click.IntRange(64, 4096), default=640, show_default=True, help="Side of the square pictures in pixels.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that render.")
def synth(count: int, seed: int, output: Path, split: Split, backgrounds: tuple[Path, ...], size: int, jobs: int) -> None:
    """Render synthetic people, seen from anywhere, with exact labels in COCO layout."""
    console = Console(stderr=True)
    if not cache_exists():
        console.print("the body model makes its cache, once: about 90 s and 0.8 GB under the home folder")
        jobs = 1 if count < 50 else jobs
    plan = Plan(seed, split, size, backgrounds)
    with progress_bar() as progress:
        labels = write_dataset(plan, count, output, jobs, lambda done, total: progress("pictures", done, total))
    people = len(labels["annotations"])
    console.print(f"{len(labels['images'])} pictures, {people} people -> {output}; labels sha256 {labels_hash(labels)}")
