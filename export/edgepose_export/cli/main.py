"""`edgepose-export`: makes model files, offline."""

import click

from edgepose.cli.program import LazyCommands, run_program

COMMANDS = {
    "ghostify": ("edgepose_export.cli.ghostify:ghostify", "Make a network out of a plain teacher, ready for training."),
    "train": ("edgepose_export.cli.train:train", "Train a network, phase by phase."),
    "pseudo-label": ("edgepose_export.cli.pseudo_label:pseudo_label", "Label people whom nobody labeled."),
    "calibrate-score": ("edgepose_export.cli.calibrate_score:calibrate_score", "Make a network's score a probability."),
    "evaluate": ("edgepose_export.cli.evaluate:evaluate", "Measure the accuracy of a model."),
    "onnx": ("edgepose_export.cli.onnx:onnx", "Write a network as a self-describing ONNX file."),
    "quantize": ("edgepose_export.cli.quantize:quantize", "Quantize a model to INT8."),
    "sensitivity": ("edgepose_export.cli.quantize:sensitivity", "Tell what each part costs in precision when it is INT8."),
}
"""Where each command is and what it is for: PyTorch, which all of them need, takes seconds to load."""


@click.command(
    cls=LazyCommands,
    places={name: place for name, (place, _) in COMMANDS.items()},
    summaries={name: summary for name, (_, summary) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Make the model files that edgepose runs: train, compress, calibrate, export, evaluate."""


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code (see `edgepose.errors`)."""
    return run_program(cli, "edgepose-export", arguments, install="install edgepose[export], or call `make setup` in a checkout")
