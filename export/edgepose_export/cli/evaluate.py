"""`edgepose-export evaluate`."""

import json
import os
from pathlib import Path
from typing import Any

import click
import onnx
from msgspec.structs import replace
from rich.console import Console, RenderableType

from edgepose.config.load import load
from edgepose.config.schema import Config
from edgepose.model.file import METADATA_PREFIX
from edgepose.model.shipped import find_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.evaluation.boxes import evaluate_boxes
from edgepose_export.evaluation.coco import Evaluation
from edgepose_export.evaluation.coco import evaluate as evaluate_model
from edgepose_export.evaluation.report import (
    box_table,
    evaluation_table,
    robustness_json,
    robustness_table,
    to_json,
    true_box_table,
)
from edgepose_export.evaluation.robustness import evaluate_robustness
from edgepose_export.evaluation.tracks.evaluation import evaluate_tracks
from edgepose_export.evaluation.tracks.tables import tracks_json, tracks_tables
from edgepose_export.evaluation.true_boxes import evaluate_true_boxes
from edgepose_export.onnx_file import set_metadata, write_model


@click.command(epilog="Example: edgepose-export evaluate default coco-dev --json")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--boxes", is_flag=True, help="Measure the boxes of people, with or without labeled keypoints, instead of poses.")
@click.option(
    "--true-boxes",
    is_flag=True,
    help="MODEL is a refiner: measure it by itself, on the labeled boxes. With --tracks: use the labels as what the networks find.",
)
@click.option("--robustness", is_flag=True, help="Measure on corrupted pictures too: noise, occlusion, low light, blur, …")
@click.option(
    "--tracks", is_flag=True, help="Measure identities, jitter, lag and events on labeled clips (synth --clips, or videos with CSV files)."
)
@click.option(
    "--set",
    "groups",
    multiple=True,
    metavar="NAME|KEY=VALUE",
    help="Use only the pictures of this set (field `set`; of clips: the elevation). With --tracks also: set a key of the runtime's"
    " configuration, such as smooth.enabled=false. Repeatable.",
)
@click.option("--limit", default=0, help="Use only the first pictures, or clips; 0 uses all.")
@click.option("--size", default=0, help="Long side of the network's input in pixels; 0 is the model's own.")
@click.option("--score", type=click.FloatRange(0, 1), help="Lowest score of a find.  [default: 0.02; with --refiner 0.05]")
@click.option("--people", type=click.IntRange(min=1), help="Most finds of a picture.  [default: 50; with --refiner 30; with --boxes 100]")
@click.option(
    "--tiles",
    type=click.FloatRange(1, 2),
    metavar="SCALE",
    help="Visit all tiles of each picture, as `edgepose infer` does; SCALE is `tiles.scale`, 1 to 2.",
)
@click.option("--refiner", metavar="NAME|FILE", help="Refine the people found with this refiner.")
@click.option("--refine-people", type=click.IntRange(min=0), default=0, help="Most people to refine in a picture; 0 refines everybody.")
@click.option(
    "--plots", type=click.Path(path_type=Path), metavar="DIR", help="Write precision-recall.png and keypoints.png into this folder."
)
@click.option("--record", is_flag=True, help="Write the figures into the model file, or with --refiner into the refiner's file.")
def evaluate(
    model: str,
    data: Path,
    as_json: bool,
    boxes: bool,
    true_boxes: bool,
    robustness: bool,
    tracks: bool,
    groups: tuple[str, ...],
    limit: int,
    size: int,
    score: float | None,
    people: int | None,
    tiles: float | None,
    refiner: str | None,
    refine_people: int,
    plots: Path | None,
    record: bool,
) -> None:
    """Measure the accuracy of MODEL (a name or an ONNX file) on DATA, through the runtime's own stages.

    DATA is a COCO-format folder; with --tracks a folder of labeled clips.
    """
    if boxes + (true_boxes and not tracks) + robustness + tracks > 1:
        raise click.UsageError("--boxes, --true-boxes, --robustness and --tracks are different measurements; expected one of them")
    settings = [text for text in groups if "=" in text]
    if settings and not tracks:
        raise click.UsageError(f"--set {settings[0]} sets a key of the configuration; expected it with --tracks")
    if tracks and (score is not None or people or record or plots is not None):
        raise click.UsageError(
            "--tracks measures the runtime as it is configured; expected no --score, --people, --plots and --record with it"
        )
    if tracks and true_boxes and refiner is not None:
        raise click.UsageError("--tracks --true-boxes runs no network; expected it without --refiner")
    if tiles and (tracks or true_boxes or robustness):
        raise click.UsageError("--tiles visits the tiles of pictures; expected it without --tracks, --true-boxes and --robustness")
    if refine_people and refiner is None:
        raise click.UsageError("--refine-people limits the people that a refiner refines; expected --refiner too")
    if plots is not None and (boxes or true_boxes or robustness):
        raise click.UsageError("--plots draws the figures of poses; expected it without --boxes, --true-boxes and --robustness")
    if record and (boxes or true_boxes or robustness):
        raise click.UsageError("--record writes the figures of poses; expected it without --boxes, --true-boxes and --robustness")
    if true_boxes and not tracks and (size or score is not None or people or refiner is not None):
        raise click.UsageError("--true-boxes runs no pose network; expected it without --size, --score, --people and --refiner")
    path = find_model(model)
    chosen: dict[str, Any] = {"groups": [text for text in groups if "=" not in text], "limit": limit}
    finds: dict[str, Any] = {
        "input_size": size,
        "score": score,
        "people": people,
        "tile_scale": tiles or 0.0,
        "refiner": find_model(refiner) if refiner is not None else None,
        "refine_people": refine_people,
    }
    table: RenderableType
    with progress_bar() as bar:
        chosen["progress"] = lambda done, total: bar("pictures", done, total)
        if tracks:
            config = _runtime_config(settings, size, finds["refiner"], refine_people)
            followed = evaluate_tracks(
                path, data, config, **chosen | {"progress": lambda done, total: bar("frames", done, total)}, true_people=true_boxes
            )
            text, table = tracks_json(followed), tracks_tables(path.stem, followed)
        elif true_boxes:
            alone = evaluate_true_boxes(path, data, **chosen)
            text, table = to_json(alone), true_box_table(path.stem, alone)
        elif boxes:
            found = evaluate_boxes(path, data, **chosen, **finds)
            text, table = to_json(found), box_table(path.stem, found)
        elif robustness:
            del finds["tile_scale"]
            corrupted = evaluate_robustness(path, data, **chosen, **finds)
            text, table = robustness_json(corrupted), robustness_table(path.stem, corrupted)
        else:
            result = evaluate_model(path, data, **chosen, **finds, plots=plots)
            text, table = to_json(result), evaluation_table(path.stem, result)
            if record:
                _record(path, finds["refiner"], data, result)
    if as_json:
        click.echo(text)
    else:
        Console().print(table)


def _runtime_config(settings: list[str], size: int, refiner: Path | None, refine_people: int) -> Config:
    """Return the runtime's default configuration with settings; neither a file nor the environment changes what is measured."""
    config = load(Path(os.devnull), settings, {})
    if size:
        config = replace(config, model=replace(config.model, input_size=size))
    if refiner is not None:
        people = refine_people or config.refine.people or config.pose.maximum_people
        config = replace(config, refine=replace(config.refine, path=str(refiner), people=people))
    return config


def _record(path: Path, refiner: Path | None, data: Path, result: Evaluation) -> None:
    """Write the figures into the model file; figures of a pair go into the refiner's file, so that the first stage keeps its own."""
    written = path if refiner is None else refiner
    figures = {"data": data.resolve().name, **json.loads(to_json(result))}
    if refiner is not None:
        figures["model"] = path.name
    model = onnx.load(str(written))
    set_metadata(model, {METADATA_PREFIX + "accuracy": json.dumps(figures)})
    write_model(model, written)
