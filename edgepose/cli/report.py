"""Findings as lines or JSON, for `edgepose check` and `edgepose doctor`."""

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


def report(look: Callable[[Config], Iterable[CheckResult]], config_file: Path | None, settings: tuple[str, ...], *, as_json: bool) -> int:
    """Writes what is found in a configuration to standard output as it comes; returns the exit code of the first fault, else 0.

    ConfigError where the configuration is refused and lines were asked for; in JSON each refusal is a finding, for scripts read
    nothing else.
    """
    found: list[CheckResult] = []
    for each in _found(look, config_file, settings, as_json=as_json):
        found.append(each)
        if not as_json:
            click.echo(_line(each))
    if as_json:
        click.echo(msgspec.json.encode({"good": all(each.good for each in found), "findings": found}))
    return next((each.exit_code for each in found if not each.good), 0)


def _found(
    look: Callable[[Config], Iterable[CheckResult]], config_file: Path | None, settings: tuple[str, ...], *, as_json: bool
) -> Iterable[CheckResult]:
    try:
        config = load(config_file, settings)
    except ConfigError as error:
        if not as_json:
            raise
        return [CheckResult("configuration", False, problem, error.exit_code) for problem in str(error).splitlines()]
    return look(config)


def _line(finding: CheckResult) -> str:
    """One line, for grep and the like; on a terminal wrapped below itself."""
    verdict = "FAIL" if not finding.good else "note" if finding.note else "ok  "
    line = f"{verdict}  {finding.what:22}  {finding.detail}"
    if not sys.stdout.isatty():
        return line
    width = max(60, shutil.get_terminal_size().columns)
    return textwrap.fill(line, width, subsequent_indent=" " * 30, break_long_words=False, break_on_hyphens=False)
