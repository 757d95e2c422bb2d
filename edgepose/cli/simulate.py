"""Command `edgepose simulate`: all topics and events, with no camera and no model."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options

_WEBHOOK_S = 3.0  # for the last events


@click.command(
    "simulate",
    short_help="Publish simulated people, for those who write a subscriber.",
    epilog="Example: edgepose simulate --seed 7 --set mqtt.host=broker.local",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Seed of the people's movements.")
@click.option("--cameras", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N", help="Number of cameras.")
@click.option("--people", type=click.IntRange(1, 20), default=3, show_default=True, metavar="N", help="People who visit each camera.")
@click.option("--rate", type=click.FloatRange(1, 100), default=10, show_default=True, metavar="N", help="Frames per second of each camera.")
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 100),
    default=1,
    show_default=True,
    metavar="N",
    help="Simulated seconds per second; times run as fast.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this simulated time; Ctrl-C ends it at any time.")
@configuration_options
def command(
    seed: int,
    cameras: int,
    people: int,
    rate: float,
    speed: float,
    seconds: float | None,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Publish to the broker what a daemon publishes whose cameras see people walk, fall, wave and loiter.

    Tracking, events, occupancy, messages and publisher are those of the daemon; only the people are made up. In a minute each kind of
    message and event comes at least once. The same seed publishes the same messages, but for times and the identifiers made of them.

    Sections `mqtt`, `webhook`, `track`, `events`, `privacy` and `health` of the configuration apply, and `device`, which is `simulator`
    where it is absent.
    """
    import logging
    import time

    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load
    from edgepose.errors import ConfigError, UnavailableError
    from edgepose.mqtt.publisher import MqttPublisher
    from edgepose.mqtt.settings import PublisherSettings, state_addresses
    from edgepose.simulation.simulation import Simulation, simulated_config
    from edgepose.supervision.signals import signals
    from edgepose.telemetry.sensors import MachineStats
    from edgepose.webhook.sender import WebhookSender
    from edgepose.webhook.settings import WebhookSettings

    with signals() as (stop, reason):
        config = simulated_config(load(config_file, settings), cameras)
        log_to_stderr(config.log.level, config.log.format)
        if not config.mqtt.enabled:
            raise ConfigError("mqtt.enabled is false, and the simulation publishes over MQTT only; expected true")
        publisher = MqttPublisher(PublisherSettings(config.mqtt, config.device or "simulator", states=state_addresses(config)))
        posted = WebhookSettings.of(config)
        webhook = None if posted is None else WebhookSender(posted)
        simulation = Simulation(
            *(config, publisher),
            seed=seed,
            people=people,
            rate_hz=rate,
            start_ns=time.time_ns(),
            webhook=webhook,
            stats=publisher.stats,
            machine=MachineStats.read,
        )
        try:
            publisher.start(within_s=config.mqtt.connect_timeout_s)
            if webhook is not None:
                webhook.start()

            def ended(wait_s: float) -> bool:
                publisher.supervise(time.monotonic())
                return stop.wait(wait_s)

            logging.getLogger("edgepose.simulate").info("simulating %d cameras with seed %d", cameras, seed)
            simulation.run(seconds=seconds, speed=speed, ended=ended)
            if not stop.is_set() and not publisher.stats().sent:
                raise UnavailableError(f"nothing was published: the broker is {publisher.stats().state}; expected one (key mqtt.host)")
        finally:
            simulation.end()
            if webhook is not None:
                webhook.close(_WEBHOOK_S)
            publisher.stop(reason() if stop.is_set() else "the simulation is over")
