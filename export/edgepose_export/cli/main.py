"""The program `edgepose-export`: makes model files, offline."""

import click

from edgepose import __version__
from edgepose.cli.program import LazyCommands, run_program

COMMANDS = {
    "ghostify": ("edgepose_export.cli.ghostify:ghostify", "Make a ghost network from a plain teacher, ready for training."),
    "train": ("edgepose_export.cli.train:train", "Train a network, phase by phase."),
    "prune": ("edgepose_export.cli.prune:prune", "Remove the least important maps of a pose network."),
    "tune": ("edgepose_export.cli.tune:tune", "Search for a network, or for settings of its training."),
    "blend": ("edgepose_export.cli.blend:blend", "Blend a trained network with the one it was trained from."),
    "pseudo-label": ("edgepose_export.cli.pseudo_label:pseudo_label", "Label unlabeled people with a better network."),
    "hard-negatives": (
        "edgepose_export.cli.hard_negatives:hard_negatives",
        "Collect what a network takes for people.",
    ),
    "calibrate-score": ("edgepose_export.cli.calibrate_score:calibrate_score", "Make a network's score a probability."),
    "evaluate": ("edgepose_export.cli.evaluate:evaluate", "Measure the accuracy of a model."),
    "report": ("edgepose_export.cli.report:report", "Write one page about a model, or several side by side."),
    "onnx": ("edgepose_export.cli.onnx:onnx", "Write a network as a self-describing ONNX file."),
    "quantize": ("edgepose_export.cli.quantize:quantize", "Quantize a model to INT8."),
    "cluster": ("edgepose_export.cli.cluster:cluster", "Give the weights of a layer a few values, for a smaller file."),
    "tensorrt": ("edgepose_export.cli.tensorrt:tensorrt", "Report what TensorRT makes of a model, and write it in half precision."),
    "make-model": ("edgepose_export.cli.make_model:make_model", "Make the files of a model that ship, step by step."),
    "bundle": ("edgepose_export.cli.bundle:bundle", "Sign configuration and models for a fleet."),
    "synth": ("edgepose_export.cli.synth:synth", "Render synthetic people with exact labels."),
    "flight": ("edgepose_export.cli.flight:flight", "Draw the paths of a flight on a map, as GeoJSON and as KML."),
    "annotate": ("edgepose_export.cli.annotate:annotate", "Write the poses of a whole archive, on one machine or many."),
    "store": ("edgepose_export.cli.store:store", "Keep the poses and events of a fleet, each message once."),
    "sensitivity": ("edgepose_export.cli.quantize:sensitivity", "Measure what INT8 costs in each part of a network."),
}
"""Module and purpose of each command. Those in `NEEDS_TORCH` run the network in PyTorch (extra `train`); the others run model files and
need no PyTorch. Commands load lazily, because PyTorch takes seconds to load."""

NEEDS_TORCH = ("ghostify", "train", "prune", "tune", "blend", "calibrate-score", "onnx", "make-model")
"""Commands that need the extra `train`."""

_INSTALL = "in a checkout of edgepose, run `pip install './export[train]'` or `make setup`"


@click.command(
    cls=LazyCommands,
    places={name: place for name, (place, _) in COMMANDS.items()},
    summaries={name: summary for name, (_, summary) in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{', '.join(NEEDS_TORCH[:-1])} and {NEEDS_TORCH[-1]} need PyTorch (extra `train`); the other commands do not.",
)
@click.version_option(__version__, "--version", prog_name="edgepose-export")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Make the model files that edgepose runs: train, compress, calibrate, export, evaluate."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code (see `edgepose.errors`)."""
    return run_program(cli, "edgepose-export", arguments, install=_INSTALL)
