"""Command `edgepose run`: the daemon."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.log import log_to_stderr
from edgepose.cli.options import configuration_options

if TYPE_CHECKING:
    from edgepose.config.schema import Config
    from edgepose.daemon.commands import Service


@click.command(
    "run",
    short_help="Run the daemon: cameras in, poses out over MQTT.",
    epilog="Example: edgepose run --config /etc/edgepose/config.yaml --set log.level=debug",
)
@configuration_options
def command(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Watch the configured cameras and publish poses until told to stop.

    Where all cameras are files (without `loop`), it ends with exit code 0 when they have ended.

    SIGTERM and SIGINT end it in order within three seconds. SIGHUP reads the configuration again: changes are applied, everything else
    continues, and an invalid configuration is refused as a whole. SIGUSR1 makes a recording of the black box, at most once a minute. Under
    systemd the daemon reports when it is ready, and feeds the watchdog. With `web.enabled` there is a live page, which needs the extra
    `web`.
    """
    import gc
    import logging
    import os
    import sys
    import time

    gc.disable()  # until it runs: what is imported and opened stays, and looking through it again and again finds nothing
    from edgepose.bundles.configured import BundledConfiguration
    from edgepose.config.load import service_variables
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import ConfigError, EdgeposeError
    from edgepose.storage.access import limit_access
    from edgepose.storage.areas_file import with_drawn_areas
    from edgepose.supervision.malloc import tune
    from edgepose.supervision.signals import hang_ups, recordings_asked, signals
    from edgepose.supervision.start_pages import release_start_pages
    from edgepose.supervision.systemd import Notifier
    from edgepose.supervision.uncaught import log_uncaught

    _log = logging.getLogger("edgepose.run")
    # The signals first: a change of the configuration that is signaled after it was read must not be lost.
    with signals() as (stop, reason), hang_ups() as hung_up, recordings_asked() as recording_asked:
        configured = BundledConfiguration(config_file, settings)
        config = configured.start()
        log_to_stderr(config.log.level, config.log.format)
        limit_access(config.files.access)
        use_configured_files(config, config.black_box.path, config.files.images)
        configured.record_start()
        config = with_drawn_areas(config)
        if not config.cameras:
            raise ConfigError("no cameras are configured; expected at least one, such as --set cameras.front.source=rtsp://camera/stream")
        tune()
        log_uncaught()
        from edgepose.engine.early_opening import EarlyOpening

        early = EarlyOpening(config.model)  # while the rest is imported
        from edgepose.bundles.updates import RolledBackError, Updates
        from edgepose.daemon.daemon import Daemon
        from edgepose.daemon.supervise import supervise

        updates = Updates(configured, with_drawn_areas)

        def load_again() -> "Config":
            return with_drawn_areas(configured.load())

        def each_turn() -> None:
            updates.turn(daemon, time.monotonic())
            if hung_up.is_set():
                hung_up.clear()
                daemon.reload()
            if recording_asked.is_set():
                recording_asked.clear()
                try:
                    daemon.record("signal")
                except EdgeposeError as error:
                    _log.warning("no recording is made: %s", error)

        if stop.is_set():
            _log.info("stopping before the start: %s", reason())
            return
        notifier, started = Notifier(service_variables(), os.getpid()), False
        try:
            daemon = Daemon(config, notifier, load=load_again, service=live_page(config), take_bundle=updates.take, early=early)
            daemon.start()
            started = True
            gc.freeze()
            gc.enable()
            release_start_pages()
            supervise(daemon, stop, reason, each_turn)
        except EdgeposeError as error:
            if stop.is_set() or not (configured.recover(error) or isinstance(error, RolledBackError)):
                raise
            if started and notifier.is_managed:  # which was told that this process ends, and starts another
                raise RolledBackError(f"the bundle is rolled back, and another start uses what ran before: {error}") from error
            _log.error("starting again with what ran before the bundle: %s", error)
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # a process of which nothing is left to be undone
        finally:
            configured.close()


def live_page(config: "Config") -> "Service | None":
    """Return the live page where it is configured; UnavailableError where the extra `web` is not installed."""
    if not config.web.enabled:
        return None
    from edgepose.cli.serve import refuse_without_extra

    refuse_without_extra("web.enabled")
    from edgepose.config.load import web_folder
    from edgepose.web.live.page import LivePage

    return LivePage(config, web_folder(config))
