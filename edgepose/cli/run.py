"""`edgepose run`: the daemon."""

from pathlib import Path

import click

from edgepose.cli.log import log_to_stderr
from edgepose.cli.options import configuration_options


@click.command(
    "run",
    short_help="Run the daemon: cameras in, poses out over MQTT.",
    epilog="Example: edgepose run --config /etc/edgepose/config.yaml --set log.level=debug",
)
@configuration_options
def command(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Watch the configured cameras and publish poses until told to stop.

    SIGTERM and SIGINT end it in order within three seconds. Under systemd it says when it is ready and feeds the watchdog.
    """
    import os

    from edgepose.daemon.memory import settle_memory
    from edgepose.daemon.supervisor import Daemon, signals, supervise
    from edgepose.daemon.systemd import Notifier
    from edgepose.errors import ConfigError
    from edgepose.load import load, service_variables

    config = load(config_file, settings)
    log_to_stderr(config.log.level, config.log.format)
    if not config.cameras:
        raise ConfigError("no cameras are configured; expected at least one, such as --set cameras.front.source=rtsp://camera/stream")
    settle_memory()
    with signals() as (stop, reason):
        daemon = Daemon(config, Notifier(service_variables(), os.getpid()))
        daemon.start()
        supervise(daemon, stop, reason)
