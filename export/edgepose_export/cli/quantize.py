"""`edgepose-export quantize` and `edgepose-export sensitivity`."""

from pathlib import Path
from typing import get_args

import click
from rich.console import Console
from rich.table import Table

from edgepose.model.file import read_model
from edgepose_export.cli.progress import progress_bar
from edgepose_export.onnx_file import file_hash, write_model
from edgepose_export.quantization.calibration import CalibrationSet
from edgepose_export.quantization.quantize import DEFAULT_METHOD, TARGETS, Target, prepare
from edgepose_export.quantization.quantize import quantize as quantize_model
from edgepose_export.quantization.ranges import METHODS, Method
from edgepose_export.quantization.sensitivity import measure


@click.command(epilog="Example: edgepose-export quantize ghost-n.onnx --data coco-train --output ghost-n-int8.onnx")
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
def quantize(
    model: Path, data: tuple[Path, ...], output: Path, method: Method, pictures: int, target: Target, float_places: tuple[str, ...]
) -> None:
    """Quantize the float file MODEL (as `edgepose-export onnx` writes it) to INT8, calibrated on pictures."""
    chosen = CalibrationSet(data, pictures)
    _warn(chosen)
    with progress_bar() as progress:
        result = quantize_model(model, chosen, method=method, target=target, float_places=float_places or None, progress=progress)
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
    info = read_model(model).info
    others = list(CalibrationSet(data, 32, offset=0.5).images(info))
    symmetric = target == "tensorrt"
    with progress_bar() as progress:
        prepared, ranges = prepare(model, chosen, method=method, symmetric=symmetric, progress=progress)
        found = measure(
            prepared, ranges, lambda: iter(others), symmetric=symmetric, progress=lambda done, total: progress("parts", done, total)
        )
    table = Table("part", title=f"{model.name}: error of the raw maps, one part in INT8 at a time")
    table.add_column("error / variance", justify="right")
    for entry in found:
        table.add_row(entry.place, f"{entry.error:.5f}")
    Console().print(table)


def _warn(pictures: CalibrationSet) -> None:
    if pictures.warning:
        click.echo(f"warning: {pictures.warning}", err=True)
