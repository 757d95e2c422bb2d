"""`edgepose check`: is the configuration good?"""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command("check", epilog="Example: edgepose check --config /etc/edgepose/config.yaml")
@configuration_options
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Validate the configuration and all that it names, without running or connecting.

    Exit code 0 where `edgepose run` would start, that of the first fault otherwise.
    """
    import msgspec

    from edgepose.daemon.preflight import findings
    from edgepose.load import load

    found = list(findings(load(config_file, settings)))
    if as_json:
        click.echo(msgspec.json.encode({"good": all(each.good for each in found), "findings": found}))
    else:
        width = max(len(each.what) for each in found)
        for each in found:
            click.echo(f"{'ok  ' if each.good else 'FAIL'}  {each.what:{width}}  {each.detail}")
    return next((each.exit_code for each in found if not each.good), 0)
