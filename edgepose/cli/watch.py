"""`edgepose watch`: what daemons publish, live."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options


@click.command(
    "watch", short_help="Watch live what daemons publish.", epilog="Example: edgepose watch --set mqtt.host=broker.local --device drone-7"
)
@click.option("--device", metavar="NAME", help="Device to watch; all of them where absent.")
@click.option("--json", "as_json", is_flag=True, help="Write each pose message as one JSON line instead of a table.")
@click.option("--events", "only_events", is_flag=True, help="Write each event as one line, and nothing else; with --json as JSON.")
@click.option("--topics", is_flag=True, help="With --json, begin each line with the topic, which names the device, and a space.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long; ctrl-c ends it at any time.")
@configuration_options
def command(
    device: str | None,
    as_json: bool,
    only_events: bool,
    topics: bool,
    seconds: float | None,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Subscribe to the broker and show the people of each camera in a live table, and what they did last.

    What the broker keeps of cameras whose device is not online, or has them no longer, is not shown.

    Standard error says when the broker is lost and when it is back. Exit code 69 where nothing at all was heard in `--seconds`.
    """
    import os
    import sys
    import threading
    import time

    import msgspec

    from edgepose.cli.live_table import LiveTable, shown
    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load
    from edgepose.config.reference import accepted
    from edgepose.config.schema import Name
    from edgepose.errors import UnavailableError, UsageError
    from edgepose.mqtt.subscriber import Subscriber
    from edgepose.supervision.signals import signals

    if device is not None:
        try:
            msgspec.convert(device, Name)
        except msgspec.ValidationError as error:
            raise UsageError(f"--device is {device!r}; expected {accepted(Name)}") from error
    if topics and not as_json:
        raise UsageError("--topics says of which device a message is; expected --json with it, since other lines name the device")
    log_to_stderr("warning" if as_json or not sys.stdout.isatty() else "error")  # a line would tear the table
    mqtt = load(config_file, settings).mqtt
    live_table = LiveTable(mqtt.prefix)
    base = f"{mqtt.prefix.strip('/')}/{device or '+'}"

    heard, nobody_reads = threading.Event(), threading.Event()

    def take(topic: str, payload: bytes) -> None:
        heard.set()
        live_table.take(topic, payload, time.monotonic())
        if topic.endswith(written) and not nobody_reads.is_set():
            try:
                if as_json:
                    message = payload if payload[:1] == b"{" else msgspec.json.encode(msgspec.msgpack.decode(payload))
                    click.echo(topic.encode() + b" " + message if topics else message)
                else:
                    for line in live_table.new_events():
                        click.echo(line)
            except BrokenPipeError:  # the reader of a pipe, such as `head`, has had enough: a good end
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                nobody_reads.set()
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # somebody else's, in no encoding of ours

    subscribed = [f"{base}/status", f"{base}/info", f"{base}/cameras/+/status", f"{base}/cameras/+/events"]
    if not only_events:
        subscribed.append(f"{base}/cameras/+/poses")
    written = "/events" if only_events else "/poses" if as_json else "nothing"
    start_s = time.monotonic()
    end_s = start_s + seconds if seconds is not None else float("inf")
    with signals() as (stop, _), Subscriber(mqtt, subscribed, take):
        if as_json or only_events:
            while time.monotonic() < end_s and not stop.wait(0.1) and not nobody_reads.is_set():
                pass
        else:
            with shown(live_table) as screen:
                while time.monotonic() < end_s and not stop.wait(0.1):
                    screen.draw()
    if not heard.is_set():
        nothing = f"heard nothing under {base} in {time.monotonic() - start_s:.0f} s"
        if not stop.is_set():
            raise UnavailableError(f"{nothing}; expected a daemon that publishes there (keys mqtt.prefix and device)")
        click.echo(nothing, err=True)
