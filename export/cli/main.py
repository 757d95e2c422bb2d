"""`edgepose-export`: makes model files, offline."""

import sys

import click

from edgepose.errors import EdgeposeError
from export.cli.calibrate_score import calibrate_score
from export.cli.evaluate import evaluate
from export.cli.ghostify import ghostify
from export.cli.onnx import onnx
from export.cli.quantize import quantize, sensitivity
from export.cli.train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Make the model files that edgepose runs: train, compress, calibrate, export, evaluate."""


for command in (ghostify, train, calibrate_score, evaluate, onnx, quantize, sensitivity):
    cli.add_command(command)


def main() -> None:
    """Entry point: errors become one sentence and an exit code, never a traceback."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(64)
    except EdgeposeError as exc:
        click.echo(f"edgepose-export: {exc}", err=True)
        sys.exit(exc.exit_code)
