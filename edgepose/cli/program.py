"""Shared parts of the programs `edgepose` and `edgepose-export`: commands that are loaded on demand, and exit codes."""

import importlib
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import Any

import click

from edgepose.errors import EdgeposeError, UnavailableError, UsageError

_INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


class LazyCommands(click.Group):
    """A group that imports the module of a command only when it is needed, so that each command starts fast.

    Args:
        places: module and attribute of each command by name, such as `edgepose.cli.run:command`.
        summaries: summary of each command by name, so that listing the commands imports none; None reads them from the commands.
        settings: passed to `click.Group`.
    """

    def __init__(self, *, places: dict[str, str], summaries: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._places = places
        self._summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command with a name, None where there is none."""
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a closed output pipe ends it with exit code 0, where Click would return 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for buffered output that Python writes at exit
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        if self._summaries is None:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summaries[name]) for name in self._places])


def run_program(cli: click.Command, name: str, arguments: list[str], *, install: str) -> int:
    """Run one command line, report an error as one line, and return the exit code (see `edgepose.errors`).

    Args:
        cli: the group of commands.
        name: name of the program.
        arguments: the command line without the program.
        install: what to install where a library is missing, in words.
    """
    ctrl_c = _CtrlC()
    try:
        return _run(cli, name, arguments, install, ctrl_c)
    finally:
        ctrl_c.close()
        if "edgepose.cli.log" in sys.modules:  # otherwise nothing was logged
            from edgepose.cli.log import flush_log

            flush_log()


def _run(cli: click.Command, name: str, arguments: list[str], install: str, ctrl_c: "_CtrlC") -> int:
    debug = "--debug" in arguments
    try:
        result = cli.main(args=arguments, prog_name=name, standalone_mode=False)
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
        _show_traceback(debug)
        _end_with(f"{name}: {error}")
        return error.exit_code
    except ModuleNotFoundError as error:
        _show_traceback(debug)
        library = (error.name or "").partition(".")[0]
        _end_with(f"{name} needs the library {library}, which is not installed here: {install}")
        return UnavailableError.exit_code
    except Exception as error:
        if ctrl_c.pressed:
            return _INTERRUPTED
        _show_traceback(debug)
        where = "" if debug else f" (run `{name} --debug …` to see where)"
        _end_with(f"{name}: unexpected {type(error).__name__}: {error}{where}")
        return EdgeposeError.exit_code
    return result if isinstance(result, int) else 0


class _CtrlC:
    """Notes that Ctrl-C was pressed: a library that is interrupted while it is imported raises errors of its own."""

    def __init__(self) -> None:
        self.pressed = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._press)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        signal.default_int_handler(number, frame)

    def close(self) -> None:
        """Put Python's own handler back, where nobody has put another one in its place."""
        if signal.getsignal(signal.SIGINT) == self._press:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _show_traceback(debug: bool) -> None:
    """Write the traceback of the exception at hand to standard error; the exit code stays the same."""
    if debug:
        traceback.print_exc()


def _end_with(text: str) -> None:
    from edgepose.capture.redact import scrub
    from edgepose.cli.log import write_last_words

    write_last_words(scrub(text))
