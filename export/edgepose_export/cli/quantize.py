"""`edgepose-export quantize` and `edgepose-export sensitivity`."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
import onnx
from rich.console import Console
from rich.table import Table

from edgepose.model.file import read_model
from edgepose_export.callbacks import TaskProgress
from edgepose_export.cli.progress import progress_bar
from edgepose_export.evaluation.boxes import evaluate_boxes
from edgepose_export.evaluation.coco import evaluate as evaluate_poses
from edgepose_export.evaluation.true_boxes import evaluate_true_boxes
from edgepose_export.onnx_file import file_hash, write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import (
    DEFAULT_METHOD,
    DEFAULT_REPAIRS,
    REPAIRS,
    TARGETS,
    CalibratedModel,
    Repair,
    Target,
    calibrate,
    default_places,
    has_integer_silu,
)
from edgepose_export.quantization.ranges import METHODS, Method
from edgepose_export.quantization.search import SearchResult, check_drop, search_float_parts
from edgepose_export.quantization.sensitivity import Sensitivity, measure

_OTHER_PICTURES = 32
_SEARCH_PICTURES = 16


@click.command(epilog="Example: edgepose-export quantize yolo11n-pose.onnx --data coco-train --output yolo11n-pose-int8.onnx")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    multiple=True,
    help="COCO-format folder of calibration pictures; repeatable. Never the test set.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option(
    "--method", type=click.Choice(METHODS), default=DEFAULT_METHOD, show_default=True, help="How to choose the ranges of activations."
)
@click.option(
    "--pictures",
    default=200,
    show_default=True,
    help="Calibration pictures, evenly chosen; at least 32. Smaller sets give several views of each picture.",
)
@click.option("--target", type=click.Choice(TARGETS), default=get_args(Target)[0], show_default=True, help="Backend that runs the file.")
@click.option(
    "--float",
    "float_places",
    multiple=True,
    help="Part to keep in float, such as trunk.stem or head.levels.*.score, instead of the best choice for the network; repeatable.",
)
@click.option(
    "--repair",
    "repairs",
    type=click.Choice((*REPAIRS, "none")),
    multiple=True,
    default=DEFAULT_REPAIRS,
    show_default=True,
    help="What to do against the loss of precision; repeatable.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    help="Largest fall of AP: search the smallest set of parts in float that keeps it (or check that of --float), and write no file that"
    " lost more. Needs --evaluate.",
)
@click.option("--evaluate", "test", type=click.Path(path_type=Path), help="COCO-format folder to measure AP with, for --max-drop.")
@click.option("--boxes", is_flag=True, help="Measure the AP of boxes instead of that of poses, for --max-drop.")
@click.option("--limit", default=0, help="Measure with the first pictures of --evaluate only; 0 uses all.")
def quantize(
    model: Path,
    data: tuple[Path, ...],
    output: Path,
    method: Method,
    pictures: int,
    target: Target,
    float_places: tuple[str, ...],
    repairs: tuple[str, ...],
    max_drop: float | None,
    test: Path | None,
    boxes: bool,
    limit: int,
) -> None:
    """Quantize the float file MODEL to INT8, calibrated on pictures.

    MODEL is a file of `edgepose-export onnx` or a pose network as Ultralytics' exporter writes it.
    """
    if (max_drop is None) != (test is None):
        raise click.UsageError("--max-drop compares AP on the pictures of --evaluate; expected both or none of them")
    if test is None and (boxes or limit):
        raise click.UsageError("--boxes and --limit say how AP is measured; expected --max-drop and --evaluate with them")
    chosen = CalibrationSet(data, pictures)
    _warn(chosen)
    wanted: tuple[Repair, ...] = tuple(repair for repair in REPAIRS if repair in repairs)
    places = float_places
    search: SearchResult | None = None
    if not places and test is None:
        places = default_places(model, target)
    with progress_bar() as progress:
        made = calibrate(model, chosen, method=method, target=target, float_places=places, repairs=wanted, progress=progress)
        if test is None or max_drop is None:
            result = made.quantized(places)
        else:
            ap = _accuracy(made, test, boxes=boxes, limit=limit, progress=progress)
            reference = ap(onnx.load(str(model)))
            if places:
                result = made.quantized(places)
                measured = ap(result)
                check_drop(model, measured, reference=reference, max_drop=max_drop)
                click.echo(f"AP {measured:.4f}, in float {reference:.4f}", err=True)
            else:
                order = [entry.place for entry in _sensitivity(made, data, _SEARCH_PICTURES, progress)]
                search = search_float_parts(made, order, ap, reference=reference, max_drop=max_drop)
                result = search.model
    if search is not None:
        _print_search(search)
    write_model(result, output)
    click.echo(f"{output}: int8 for {target}, {output.stat().st_size / 1e6:.1f} MB, sha256 {file_hash(output)}", err=True)


@click.command(epilog="Example: edgepose-export sensitivity ghost-n.onnx --data coco-train")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), multiple=True, help="COCO-format folder of pictures; repeatable. Never the test set."
)
@click.option(
    "--method", type=click.Choice(METHODS), default=DEFAULT_METHOD, show_default=True, help="How to choose the ranges of activations."
)
@click.option("--pictures", default=64, show_default=True, help="Calibration pictures; 32 other pictures measure the error.")
@click.option("--target", type=click.Choice(TARGETS), default=get_args(Target)[0], show_default=True, help="Backend that runs the file.")
def sensitivity(model: Path, data: tuple[Path, ...], method: Method, pictures: int, target: Target) -> None:
    """Measure the precision that each part of the float file MODEL loses when it alone is INT8, the most sensitive first."""
    chosen = CalibrationSet(data, pictures)
    _warn(chosen)
    with progress_bar() as progress:
        made = calibrate(model, chosen, method=method, target=target, progress=progress)
        found = _sensitivity(made, data, _OTHER_PICTURES, progress)
    table = Table("part", title=f"{model.name}: error of the raw maps, one part in INT8 at a time")
    table.add_column("error / variance", justify="right")
    for entry in found:
        table.add_row(entry.place, f"{entry.error:.5f}")
    Console().print(table)


def _sensitivity(made: CalibratedModel, data: tuple[Path, ...], count: int, progress: TaskProgress) -> list[Sensitivity]:
    """Measure each part on pictures of the same folders that did not calibrate it."""
    others = list(CalibrationSet(data, _OTHER_PICTURES, offset=0.5).inputs(made.info))[:count]
    return measure(
        made.model,
        made.ranges,
        lambda: iter(others),
        symmetric=made.target == "tensorrt",
        integer_silu=has_integer_silu(made.info, made.target),
        progress=lambda done, total: progress("parts", done, total),
    )


def _accuracy(made: CalibratedModel, test: Path, *, boxes: bool, limit: int, progress: TaskProgress) -> Callable[[onnx.ModelProto], float]:
    """Return what measures the AP of a model through the runtime's own stages; that of a refiner on the labeled boxes."""
    refines = read_model(made.source).info.task == "refine"
    if refines and boxes:
        raise click.UsageError("a refiner finds no boxes; expected no --boxes")

    def ap(model: onnx.ModelProto) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_model(model, path)
            evaluate = evaluate_true_boxes if refines else evaluate_boxes if boxes else evaluate_poses
            return evaluate(path, test, limit=limit, progress=lambda done, total: progress("accuracy", done, total)).ap

    return ap


def _print_search(found: SearchResult) -> None:
    """Print what the search measured."""
    console = Console(stderr=True)
    console.print(f"always in float: {', '.join(found.always)}")
    table = Table("parts in float beside these", title=f"AP in float {found.reference:.4f}")
    table.add_column("AP", justify="right")
    for trial in found.trials:
        parts = [part for part in trial.float_places if part not in found.always]
        style = "bold" if trial is found.best else None
        table.add_row(", ".join(parts) or "none", f"{trial.accuracy:.4f}", style=style)
    console.print(table)
    click.echo(f"AP {found.best.accuracy:.4f} with {len(found.best.float_places)} parts in float", err=True)


def _warn(pictures: CalibrationSet) -> None:
    if pictures.warning:
        click.echo(f"warning: {pictures.warning}", err=True)
