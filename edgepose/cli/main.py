"""The program `edgepose` and its commands."""

import click

from edgepose import __version__
from edgepose.cli.program import LazyCommands, run_program
from edgepose.storage.access import owner_only

COMMANDS = (
    *("run", "demo", "infer", "serve", "watch", "replay", "simulate", "check", "doctor", "bench", "build-engine", "schema", "accounts"),
    *("audit", "keys", "forget", "bundle"),
)

_MODULES = {"keys": "master_keys"}


@click.command(
    cls=LazyCommands,
    places={name: f"edgepose.cli.{_MODULES.get(name, name.replace('-', '_'))}:command" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try: edgepose demo",
)
@click.version_option(__version__, "--version", prog_name="edgepose")
@click.option("--debug", is_flag=True, help="Show tracebacks and log at debug level.")
def cli(debug: bool) -> None:
    """Human pose on the edge: from a camera stream through an INT8 network to keypoints on MQTT."""
    if debug:
        from edgepose.cli.log import log_to_stderr

        log_to_stderr("debug")


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code (see `edgepose.errors`)."""
    with owner_only():  # what people do is nobody else's business, unless `files.access` says so
        return run_program(cli, "edgepose", arguments, install="in a checkout of edgepose, run `pip install '.[cpu]'`")
