"""`edgepose doctor`: what works on this machine, and what would help where it does not."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "doctor", short_help="Find out what works on this machine.", epilog="Example: edgepose doctor --config /etc/edgepose/config.yaml --json"
)
@configuration_options
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Look at versions, devices, the model and the broker, and say what would help where something fails.

    Opens the engine and contacts the broker, but no camera. Exit code 0 where all is well, that of the first fault otherwise.
    """
    from edgepose.cli.report import report
    from edgepose.diagnostics.doctor import examine

    return report(examine, config_file, settings, as_json=as_json)
