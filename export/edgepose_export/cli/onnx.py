"""`edgepose-export onnx`."""

from pathlib import Path

import click

from edgepose_export.network.checkpoint import parameters_count
from edgepose_export.network.refiner import RefinerNetwork
from edgepose_export.network.to_onnx import Card, write_onnx
from edgepose_export.onnx_file import file_hash
from edgepose_export.shipped import find_checkpoint


@click.command(epilog="Example: edgepose-export onnx ghost-n --output ghost-n-320.onnx --size 320")
@click.argument("checkpoint")
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option("--size", default=320, show_default=True, help="Long side in pixels of the input that a pose network is made for.")
@click.option(
    "--height",
    default=0,
    help="Fix the input's height in pixels (with --width) and the batch at 1; default: any multiple of 32.",
)
@click.option("--width", default=0, help="Fix the input's width in pixels (with --height).")
@click.option(
    "--average/--weights",
    default=True,
    show_default=True,
    help="Take the running average of the weights where the checkpoint has one, or the last weights.",
)
@click.option("--half", is_flag=True, help="Store the weights in half precision, as shipped files do; quantize the full file.")
@click.option("--name", default="", help="Name of the model in the file; default: the output's name.")
@click.option("--trained-on", default="", help="Data sets and teacher, in words, for the file's card.")
def onnx(checkpoint: str, output: Path, size: int, height: int, width: int, average: bool, half: bool, name: str, trained_on: str) -> None:
    """Write the network of CHECKPOINT (a shipped name, such as ghost-n, or a file) as a self-describing ONNX file in float."""
    card = Card(name or output.stem, max(height, width) or size, trained_on)
    network = write_onnx(find_checkpoint(checkpoint), output, card, height=height, width=width, average=average, half=half)
    sides = f"{width}x{height}" if height else f"any multiple of 32, made for {size}"
    if isinstance(network, RefinerNetwork):
        sides = f"{network.spec.crop_width}x{network.spec.crop_height}"
    click.echo(f"{output}: {parameters_count(network):,} parameters, input {sides} px, sha256 {file_hash(output)}", err=True)
