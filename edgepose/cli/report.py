"""Findings as lines or JSON, for `edgepose check` and `edgepose doctor`."""

from collections.abc import Iterable

import click
import msgspec

from edgepose.daemon.preflight import Finding


def report(findings: Iterable[Finding], *, as_json: bool) -> int:
    """Writes findings to standard output as they come; returns the exit code of the first that is not good, else 0."""
    found: list[Finding] = []
    for each in findings:
        found.append(each)
        if not as_json:
            click.echo(f"{'ok  ' if each.good else 'FAIL'}  {each.what:22}  {each.detail}")
    if as_json:
        click.echo(msgspec.json.encode({"good": all(each.good for each in found), "findings": found}))
    return next((each.exit_code for each in found if not each.good), 0)
