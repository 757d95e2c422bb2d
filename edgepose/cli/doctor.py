"""Command `edgepose doctor`: what works on this machine, and how to fix what does not."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option


@click.command(
    "doctor", short_help="Diagnose what works on this machine.", epilog="Example: edgepose doctor --config /etc/edgepose/config.yaml --json"
)
@configuration_options
@json_option
def command(config_file: Path | None, settings: tuple[str, ...], as_json: bool) -> int:
    """Check versions, devices, the model and the broker, with a hint for each fault.

    Opens the engine and contacts the broker, but no camera. The exit code is 0 if everything works, and otherwise that of the first fault.
    """
    from edgepose.cli.report import report
    from edgepose.diagnostics.doctor import doctor_checks

    return report(doctor_checks, config_file, settings, as_json=as_json)
