"""The program `edgepose`: its commands, and its log on standard error."""

import logging
import sys

import click

from edgepose import __version__
from edgepose.cli.program import LazyCommands, run_program
from edgepose.load import service_variables

COMMANDS = ("run", "demo", "infer", "watch", "check", "doctor", "bench", "schema")


@click.command(
    cls=LazyCommands,
    places={name: f"edgepose.cli.{name}:command" for name in COMMANDS},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try: edgepose demo",
)
@click.version_option(__version__, "--version", prog_name="edgepose")
@click.option("--debug", is_flag=True, help="Show tracebacks and log everything.")
def cli(debug: bool) -> None:
    """Human pose on the edge: from a camera stream through an INT8 network to keypoints on MQTT."""
    if debug:
        log_to_stderr("debug")


def log_to_stderr(level: str) -> None:
    """Writes log lines from `level` up to standard error; under systemd with the priorities that its journal understands."""
    root = logging.getLogger("edgepose")
    if root.handlers:  # --debug came first and shows more
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in service_variables() else logging.Formatter(_LINE, _TIME))
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False


_LINE = "%(asctime)s %(levelname)-7s %(message)s"
_TIME = "%H:%M:%S"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _JournalFormatter(logging.Formatter):
    """Lines with a priority in front, as sd-daemon(3) wants them; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{super().format(record)}"


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code (see `edgepose.errors`)."""
    return run_program(cli, "edgepose", arguments, install="install edgepose[cpu]")
