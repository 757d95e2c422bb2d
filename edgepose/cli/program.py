"""What the programs `edgepose` and `edgepose-export` have in common: commands that are loaded when asked for, and exit codes."""

import importlib
import os
import sys
from typing import Any

import click

from edgepose.errors import EdgeposeError, UnavailableError, UsageError

_INTERRUPTED = 130  # what a shell expects of a program that ctrl-c ended


class LazyCommands(click.Group):
    """Loads the module of a command only when it is asked for, so that each starts fast.

    Args:
        places: module and name of each command, such as `edgepose.cli.run:command`, by what it is called.
        summaries: what the list of commands says of each, so that the list loads none; read off the commands where absent.
    """

    def __init__(self, *, places: dict[str, str], summaries: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._places = places
        self._summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is the order in which one meets them."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, None where there is none."""
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command. Whoever reads its output and has seen enough ends it in order: Click would make exit code 1 of that."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still holds and writes in the end
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        if self._summaries is None:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summaries[name]) for name in self._places])


def run_program(cli: click.Command, name: str, arguments: list[str], *, install: str) -> int:
    """Runs one command line, turns every error into one line, and returns its exit code (see `edgepose.errors`).

    Args:
        name: of the program.
        install: what to install where a library is missing, in words.
    """
    debug = "--debug" in arguments
    try:
        outcome = cli.main(args=arguments, prog_name=name, standalone_mode=False)
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
    except EdgeposeError as error:
        if debug:
            raise
        _complain(f"{name}: {error}")
        return error.exit_code
    except ModuleNotFoundError as error:
        if debug:
            raise
        _complain(f"{name} needs the library {error.name}, which is not installed here: {install}")
        return UnavailableError.exit_code
    except Exception as error:
        if debug:
            raise
        _complain(f"{name}: unexpected {type(error).__name__}: {error} (run `{name} --debug …` to see where)")
        return EdgeposeError.exit_code
    return outcome if isinstance(outcome, int) else 0


def _complain(text: str) -> None:
    """Says why the program ends; to the journal as an error, line by line."""
    from edgepose.cli.log import is_journal
    from edgepose.config.load import service_variables

    if is_journal(sys.stderr, service_variables()):
        text = "\n".join(f"<3>{line}" for line in text.splitlines())
    click.echo(text, err=True)
