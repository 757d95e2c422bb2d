"""`edgepose check`: is the configuration good?"""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "check", short_help="Validate a configuration without running.", epilog="Example: edgepose check --config /etc/edgepose/config.yaml"
)
@configuration_options
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Validate the configuration and all that it names, without running or connecting.

    Exit code 0 where `edgepose run` would start, that of the first fault otherwise. A line `note` is no fault: a device that is not there
    yet is waited for, zones that nothing looks at do no harm.
    """
    from edgepose.cli.report import report
    from edgepose.diagnostics.preflight import findings

    return report(findings, config_file, settings, as_json=as_json)
