"""Command `edgepose serve`: the web page and HTTP API, for pictures and videos that people upload."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options


@click.command(
    "serve",
    short_help="Serve a web page and an HTTP API for uploads.",
    epilog="Example: edgepose serve --port 9480",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; the default is web.host, which is 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="Port to listen on; the default is web.port, and 0 uses any free one."
)
@configuration_options
def command(host: str | None, port: int | None, config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Serve a page where people upload pictures and videos and see the people in them, and the same as an HTTP API.

    The first start prints a one-time link, which makes the first administrator; there is no default password. As a service, root reads the
    link with `edgepose accounts setup`. On any address but the loopback, everything is encrypted, with a certificate that is made at the
    first start unless one is configured. Each upload is read by a process of its own, without network and with bounded memory.

    Needs the extra `web`. SIGTERM and SIGINT end it in order; uploads and results are then deleted.
    """
    import logging
    import os
    import sys
    import time

    from msgspec.structs import replace

    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load, service_variables, web_folder
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import ConfigError
    from edgepose.storage.access import limit_access
    from edgepose.supervision.malloc import tune
    from edgepose.supervision.signals import signals
    from edgepose.supervision.systemd import Notifier

    _log = logging.getLogger("edgepose.serve")
    refuse_without_extra("edgepose serve")
    with signals() as (stop, _):
        config = load(config_file, settings)
        log_to_stderr(config.log.level, config.log.format)
        limit_access("owner")
        use_configured_files(config, web_folder(config))
        tune()
        privacy = config.privacy
        for key, value, wanted in (("pixels", privacy.pixels, ("allowed", "blurred")), ("profile", privacy.profile, ("full",))):
            if value not in wanted:
                raise ConfigError(f"privacy.{key} is {value}, and this page shows people in pictures; expected {' or '.join(wanted)}")
        web = replace(config.web, host=host or config.web.host, port=config.web.port if port is None else port)
        config = replace(config, web=web)
        from edgepose.web.app import make_app
        from edgepose.web.greeting import greet
        from edgepose.web.server import WebServer

        folder = web_folder(config)
        server = WebServer(make_app(config, folder), web, folder)
        for line in greet(server.url, web, folder, terminal=sys.stdout.isatty()):
            click.echo(line)
        notifier = Notifier(service_variables(), os.getpid())
        fed_s = 0.0

        def alive() -> None:
            nonlocal fed_s
            now_s = time.monotonic()
            if notifier.watchdog_s is not None and now_s - fed_s > notifier.watchdog_s / 4:
                fed_s = now_s
                notifier.alive()

        server.run(stop, notifier.ready, alive)
        notifier.stopping()
        _log.info("stopped")


def refuse_without_extra(name: str) -> None:
    """Raise UnavailableError where a library of the extra `web` is not installed.

    Args:
        name: what needs it, such as `edgepose serve`.
    """
    import importlib.util

    from edgepose.errors import UnavailableError

    for library in ("fastapi", "uvicorn", "websockets", "argon2", "cryptography", "segno"):
        if importlib.util.find_spec(library) is None:
            raise UnavailableError(
                f"{name} needs the library {library}, which is not installed here; expected the extra web: in a checkout of"
                " edgepose, run `pip install '.[cpu,web]'`, or for a service deploy/install.sh --upgrade --extras cpu,web"
            )
