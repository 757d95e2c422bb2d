"""`edgepose-export synth`."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from edgepose_export.cli.progress import progress_bar
from edgepose_export.synth.bodies import cache_exists
from edgepose_export.synth.clips.flights import MOVEMENTS, Movement
from edgepose_export.synth.clips.folder import write_clips
from edgepose_export.synth.clips.maker import ClipPlan
from edgepose_export.synth.clips.scripts import STORIES, Story
from edgepose_export.synth.dataset import labels_hash, write_dataset
from edgepose_export.synth.effects import LOOKS, Appearance
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
@click.option(
    "--look",
    "looks",
    type=click.Choice(LOOKS),
    multiple=True,
    help="Light and weather; repeatable, in turn.  [default: drawn; clips clear]",
)
@click.option(
    "--size", type=click.IntRange(64, 4096), help="Side of the square pictures, or width of the clips, in pixels.  [default: 640]"
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes that render.")
@click.option("--clips", is_flag=True, help="Render clips of moving people instead of pictures; --count counts clips.")
@click.option("--story", "stories", type=click.Choice(STORIES), multiple=True, help="Of clips: what happens; repeatable.  [default: all]")
@click.option(
    "--elevation",
    "elevations",
    type=click.IntRange(0, 90),
    multiple=True,
    help="Of clips: degrees down; repeatable.  [default: 0 30 60 90]",
)
@click.option(
    "--camera", "movements", type=click.Choice(MOVEMENTS), multiple=True, help="Of clips: how the camera moves; repeatable.  [default: all]"
)
@click.option("--height", type=click.IntRange(64, 4096), help="Of clips: height in pixels.  [default: 9/16 of the width]")
@click.option("--fps", type=click.IntRange(1, 60), help="Of clips: frames a second.  [default: 10]")
@click.option("--seconds", type=click.FloatRange(1, 120), help="Of clips: duration.  [default: 8]")
@click.option("--mp4", is_flag=True, help="Of clips: write each as an MP4 file too.")
def synth(
    count: int,
    seed: int,
    output: Path,
    split: Split,
    backgrounds: tuple[Path, ...],
    looks: tuple[Appearance, ...],
    size: int | None,
    jobs: int,
    clips: bool,
    stories: tuple[Story, ...],
    elevations: tuple[int, ...],
    movements: tuple[Movement, ...],
    height: int | None,
    fps: int | None,
    seconds: float | None,
    mp4: bool,
) -> None:
    """Render synthetic people, seen from anywhere, with exact labels in COCO layout."""
    chosen = {"stories": stories, "elevations": elevations, "movements": movements, "height": height, "fps": fps, "seconds": seconds}
    given: dict[str, Any] = {key: value for key, value in chosen.items() if value}
    if not clips and (given or mp4):
        raise click.UsageError(
            "--story, --elevation, --camera, --height, --fps, --seconds and --mp4 describe clips; expected --clips with them"
        )
    console = Console(stderr=True)
    if not cache_exists():
        console.print("the body model makes its cache, once: about 90 s and 0.8 GB under the home folder")
        jobs = 1 if clips or count < 50 else jobs
    width = size or 640
    with progress_bar() as bar:
        if clips:
            given.setdefault("height", width * 9 // 32 * 2)
            plan = ClipPlan(seed, split, width, looks=looks or ("clear",), backgrounds=backgrounds, **given)
            labels = write_clips(plan, count, output, jobs, lambda done, total: bar("frames", done, total), videos=mp4)
        else:
            pictures = Plan(seed, split, width, backgrounds, looks)
            labels = write_dataset(pictures, count, output, jobs, lambda done, total: bar("pictures", done, total))
    if clips:
        made = f"{len(labels['videos'])} clips, {len(labels['images'])} frames, {len(labels['events'])} events"
    else:
        made = f"{len(labels['images'])} pictures, {len(labels['annotations'])} people"
    console.print(f"{made} -> {output}; labels sha256 {labels_hash(labels)}")
