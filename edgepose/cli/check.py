"""Command `edgepose check`: whether a configuration is valid."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "check", short_help="Validate a configuration without running.", epilog="Example: edgepose check --config /etc/edgepose/config.yaml"
)
@configuration_options
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Validate the configuration and everything that it names, without running or connecting.

    A model that is not part of the package is loaded and tried on one gray image.

    The exit code is 0 if `edgepose run` would start, and otherwise that of the first fault. A line `note` is not a fault: the daemon
    waits for a device that is not connected yet, and zones without an effect do no harm.
    """
    from edgepose.cli.report import report
    from edgepose.diagnostics.preflight import preflight_checks

    return report(preflight_checks, config_file, settings, as_json=as_json)
