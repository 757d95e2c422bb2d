"""Check results as lines or JSON, for `edgepose check` and `edgepose doctor`."""

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import msgspec

from edgepose.config.load import load
from edgepose.config.schema import Config
from edgepose.diagnostics.preflight import CheckResult
from edgepose.errors import ConfigError


def report(checks: Callable[[Config], Iterable[CheckResult]], config_file: Path | None, settings: tuple[str, ...], *, as_json: bool) -> int:
    """Write each check result to standard output as it arrives, and return the exit code of the first fault, otherwise 0.

    Args:
        checks: yields the results for a configuration.
        config_file: the option `--config`.
        settings: the options `--set`.
        as_json: whether to write one JSON object at the end instead of lines.

    Raises:
        ConfigError: the configuration is refused; with `as_json` each refusal is a result instead, since scripts read nothing else.
    """
    results: list[CheckResult] = []
    for result in _results(checks, config_file, settings, as_json=as_json):
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    if as_json:
        click.echo(msgspec.json.encode({"good": all(result.good for result in results), "findings": results}))
    return next((result.exit_code for result in results if not result.good), 0)


def _results(
    checks: Callable[[Config], Iterable[CheckResult]], config_file: Path | None, settings: tuple[str, ...], *, as_json: bool
) -> Iterable[CheckResult]:
    try:
        config = load(config_file, settings)
    except ConfigError as error:
        if not as_json:
            raise
        return [CheckResult("configuration", False, sentence, error.exit_code) for sentence in str(error).splitlines()]
    return checks(config)


def _line(result: CheckResult) -> str:
    """Return a result as one line, as grep needs it; on a terminal it is wrapped with a hanging indent."""
    status = "FAIL" if not result.good else "note" if result.note else "ok  "
    line = f"{status}  {result.what:22}  {result.detail}"
    if not sys.stdout.isatty():
        return line
    width = max(60, shutil.get_terminal_size().columns)
    return textwrap.fill(line, width, subsequent_indent=" " * 30, break_long_words=False, break_on_hyphens=False)
