"""Command `edgepose watch`: what daemons publish, live."""

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
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this time, in seconds; Ctrl-C ends it at any time.")
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
    """Subscribe to the broker and show the people of each camera in a live table, with the last events.

    Retained messages of cameras whose device is not online, or no longer has them, are not shown.

    Standard error reports when the connection to the broker is lost and restored. The exit code is 69 if nothing arrives in `--seconds`.
    """
    import os
    import sys
    import threading

    import msgspec

    from edgepose.cli.live_table import event_row_line, shown
    from edgepose.cli.log import log_to_stderr
    from edgepose.config.load import load
    from edgepose.config.reference import accepted
    from edgepose.config.schema import Name
    from edgepose.errors import UnavailableError, UsageError
    from edgepose.mqtt.watcher import Watcher
    from edgepose.mqtt.watcher import as_json as payload_as_json
    from edgepose.printable import printable
    from edgepose.supervision.signals import signals

    if device is not None:
        try:
            msgspec.convert(device, Name)
        except msgspec.ValidationError as error:
            raise UsageError(f"--device is {device!r}; expected {accepted(Name)}") from error
    if topics and not as_json:
        raise UsageError("--topics names the device of each message; expected --json with it, since other lines name the device already")
    log_to_stderr("warning" if as_json or not sys.stdout.isatty() else "error")  # a line would tear the table
    written = "/events" if only_events else "/poses"
    reader_gone = threading.Event()

    def write(topic: str, payload: bytes) -> None:
        if not topic.endswith(written) or reader_gone.is_set():
            return
        try:
            if not as_json:
                for event in watcher.table.new_events():
                    click.echo(event_row_line(event))
            elif (line := payload_as_json(topic, payload)) is not None:
                click.echo(printable(topic).encode() + b" " + line if topics else line)
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has read enough: a good end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            reader_gone.set()

    in_lines = as_json or only_events
    watcher = Watcher(load(config_file, settings).mqtt, device, poses=not only_events, take=write if in_lines else None)
    with signals() as (stop, _), watcher:
        if in_lines:
            watcher.wait(stop, seconds, lambda: not reader_gone.is_set())
        else:
            with shown(watcher.table) as screen:

                def draw() -> bool:
                    screen.draw()
                    return True

                watcher.wait(stop, seconds, draw)
    silence = watcher.silence()
    if silence is not None:
        if not stop.is_set():
            raise UnavailableError(f"{silence}; expected a daemon that publishes there (keys mqtt.prefix and device)")
        click.echo(silence, err=True)
