"""`edgepose-export tensorrt`."""

import json
from collections import Counter
from pathlib import Path

import click
import onnx
from rich.console import Console
from rich.table import Table

from edgepose.engine.tensorrt.library import load_library
from edgepose.errors import ModelError
from edgepose.model.file import read_model
from edgepose_export.onnx_file import file_hash, write_model
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.half import to_half
from edgepose_export.quantization.tensorrt_report import EngineLayers, engine_layers, listed_as_float, summary


@click.command(epilog="Example: edgepose-export tensorrt ghost-n-int8-trt.onnx --output ghost-n-tensorrt.onnx")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="ONNX file to write, with what is not INT8 in half precision; then it is reported.",
)
@click.option("--size", default=0, show_default=True, help="Long side of the input in pixels; 0 is the model's own.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for scripts.")
def tensorrt(model: Path, output: Path | None, size: int, as_json: bool) -> None:
    """Build MODEL, float or INT8 (`quantize --target tensorrt`), with the TensorRT that is installed, and report what becomes of it.

    TensorRT for RTX (pip install tensorrt-rtx) builds without a GPU; it decides like TensorRT does about precision and fusions, but its
    engines run on other devices. Layers that are not INT8 are listed with the reason. The exit code is 78 where a layer that the file has
    between Q and DQ is not INT8.
    """
    read_model(model)
    loaded = onnx.load(str(model))
    listed = listed_as_float(loaded)
    if listed is not None and (refused := tensorrt_objections(loaded)):
        raise ModelError(f"TensorRT would misread {model}: {refused[0]}")
    if output is not None:
        write_model(to_half(loaded), output)
        click.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {file_hash(output)}", err=True)
    found = engine_layers(load_library(), output or model, size)
    if as_json:
        click.echo(json.dumps(summary(found)))
    else:
        _show(found)
    objections = found.objections(listed)
    if objections:
        raise ModelError(f"{output or model} is not built as it was written: {objections[0]} ({len(objections)} in all)")


def _show(found: EngineLayers) -> None:
    console = Console()
    table = Table("convolution", "precision", title=f"{found.library}: {len(found.layers)} layers, {found.plan_bytes / 1e6:.1f} MB")
    table.add_column("multiply-adds", justify="right")
    table.add_column("fused with", justify="right")
    table.add_column("why not INT8")
    for entry in found.convolutions:
        table.add_row(entry.node, entry.precision, f"{entry.multiply_adds:,}", str(entry.fused), entry.why)
    console.print(table)
    kinds = Counter(layer.kind for layer in found.layers)
    precisions = Counter(entry.precision for entry in found.convolutions)
    console.print(f"layers: {', '.join(f'{count} {kind}' for kind, count in kinds.most_common())}")
    console.print(f"convolutions: {', '.join(f'{count} {kind}' for kind, count in precisions.most_common())}")
    console.print(f"multiply-adds that are not INT8: {found.float_share():.1%}; built in {found.took_s:.0f} s")
