"""`edgepose-export onnx`."""

from pathlib import Path

import click

from edgepose_export.network.model import load_deployed, load_network
from edgepose_export.network.onnx_file import Card, file_hash, to_onnx, write_model


@click.command(epilog="Example: edgepose-export onnx runs/ghost-n/last.pt --output ghost-n-320.onnx --size 320")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option("--size", default=320, show_default=True, help="Long side of the input in pixels that the network is made for.")
@click.option(
    "--height", default=0, help="Fix the input's height (with --width) and the batch at 1; any multiple of 32 is accepted otherwise."
)
@click.option("--width", default=0, help="Fix the input's width (with --height).")
@click.option(
    "--average/--weights",
    default=True,
    show_default=True,
    help="Take the running average of the weights where the checkpoint has one, or the last weights.",
)
@click.option("--name", default="", help="Name of the model in the file; the output's name where absent.")
@click.option("--trained-on", default="", help="Data sets and teacher, in words, for the file's card.")
def onnx(checkpoint: Path, output: Path, size: int, height: int, width: int, average: bool, name: str, trained_on: str) -> None:
    """Write the network of CHECKPOINT as a self-describing ONNX file in float."""
    network = load_deployed(checkpoint) if average else load_network(checkpoint)
    card = Card(name or output.stem, max(height, width) or size, trained_on)
    write_model(to_onnx(network, card, height=height, width=width), output)
    crops = network.spec.task == "refine"
    sides = f"{width}x{height}" if height else f"{size}x{size}" if crops else f"any multiple of 32, made for {size}"
    click.echo(f"{output}: {network.parameters_count():,} parameters, input {sides} px, sha256 {file_hash(output)}", err=True)
