"""The program `edgepose`: finds the command, and turns every error into one line and an exit code."""

import importlib
import logging
import os
import sys

import click

from edgepose import __version__
from edgepose.errors import EdgeposeError, UsageError
from edgepose.load import service_variables

COMMANDS = ("run", "demo", "infer", "watch", "check", "doctor", "bench", "schema")

_INTERRUPTED = 130  # what a shell expects of a program that ctrl-c ended


class _Commands(click.Group):
    """Loads the module of a command only when it is asked for, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"edgepose.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.command(
    cls=_Commands,
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


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code (see `edgepose.errors`)."""
    debug = "--debug" in arguments
    try:
        outcome = cli.main(args=arguments, prog_name="edgepose", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return UsageError.exit_code
    except click.ClickException as error:
        error.show()
        return EdgeposeError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EdgeposeError as error:
        if debug:
            raise
        click.echo(f"edgepose: {error}", err=True)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        click.echo(f"edgepose: unexpected {type(error).__name__}: {error} (run `edgepose --debug …` to see where)", err=True)
        return EdgeposeError.exit_code
    return outcome if isinstance(outcome, int) else 0
