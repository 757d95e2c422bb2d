"""Command `edgepose forget`: everything that is stored of a span of time is deleted."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.options import configuration_options, json_option

if TYPE_CHECKING:
    from edgepose.config.schema import Config

_TAKEN_S, _DONE_S = 3.0, 120.0


@click.command(
    "forget",
    short_help="Delete everything that is stored of a span of time.",
    epilog="Example: edgepose forget --from 2026-11-22T10:00 --to 2026-11-22T10:30 --camera front",
)
@click.option("--from", "begin", metavar="TIME", help="First moment, such as 2026-11-22T10:00; without a zone, in the time of this device.")
@click.option("--to", "end", metavar="TIME", help="Last moment.")
@click.option("--all", "everything", is_flag=True, help="All of the time.")
@click.option("--camera", metavar="NAME", help="Only what is of this camera.")
@configuration_options
@json_option
def command(
    begin: str | None,
    end: str | None,
    everything: bool,
    camera: str | None,
    config_file: Path | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Delete what is stored of a span: waiting events, recordings, records of commands, poses, videos, images, uploads and results.

    A running daemon and a running page delete it themselves and go on; where none runs, the files are changed directly. The occupancy
    that the broker keeps is replaced. Accounts stay. What has left the device already is listed: nobody can call it back.
    """
    import msgspec

    from edgepose.config.load import live_folder, load, web_folder
    from edgepose.daemon.forgetting import forget_stored, request_folder
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import OutputError, UnavailableError, UsageError
    from edgepose.storage.mailbox import Counts, Mailbox
    from edgepose.storage.span import Span

    if everything == (begin is not None or end is not None) or (begin is None) != (end is None):
        raise UsageError("the span is not clear; expected --from and --to, or --all")
    span = Span(camera=camera) if begin is None or end is None else Span(_nanoseconds(begin), _nanoseconds(end), camera)
    if span.from_ns > span.to_ns:
        raise UsageError(f"--from {begin} is after --to {end}; expected an earlier time")
    config = load(config_file, settings)
    use_configured_files(config)

    def asked(folder: Path) -> Counts | None:
        try:
            return Mailbox(folder).ask(span, _TAKEN_S, _DONE_S)
        except TimeoutError as error:
            raise UnavailableError(f"the process that works in {folder} took the request and does not answer; see its log") from error
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; expected a folder of edgepose") from error

    folder = request_folder(config)
    deleted: dict[str, Counts] = {}
    counts = asked(folder) if folder is not None and folder.is_dir() else None
    runs = counts is not None
    if folder is not None and folder.is_dir():
        deleted["daemon"] = forget_stored(config, span) if counts is None else counts
    for part, page in (("web", web_folder(config)), ("live", live_folder(config))):
        if not page.is_dir():
            continue
        counts = asked(page)
        if counts is None:
            from edgepose.web.forgetting import forget_stored_page

            counts = forget_stored_page(page, span)
        deleted[part] = counts
    beyond = _out_of_reach(config, runs=runs)
    if as_json:
        click.echo(msgspec.json.encode({"deleted": deleted, "out_of_reach": beyond}))
    else:
        for part, counts in deleted.items():
            for what, count in counts.items():
                click.echo(f"{part}: {what.replace('_', ' ')}: {'not deleted in time' if count is None else f'{count} deleted'}")
        for each in beyond:
            click.echo(f"out of reach: {each}")
    late = [f"{part}: {what}" for part, counts in deleted.items() for what, count in counts.items() if count is None]
    if late or any(not counts for counts in deleted.values()):
        raise UnavailableError(f"not everything was deleted ({', '.join(late) or 'the log of the daemon has the reason'}); run it again")


def _nanoseconds(text: str) -> int:
    from edgepose.errors import UsageError

    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError as error:
        raise UsageError(f"{text} is no time; expected one such as 2026-11-22T10:00 or 2026-11-22T10:00:00+01:00") from error
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _out_of_reach(config: "Config", *, runs: bool) -> list[str]:
    """Return what may have left the device, one sentence part each."""
    from urllib.parse import urlsplit

    from edgepose.config.load import device_name

    found = ["the log, which the journal keeps, and what was copied or downloaded"]
    if config.mqtt.enabled:
        topics = f"{config.mqtt.prefix}/{device_name(config)}/#"
        found.append(f"messages on {topics} that {', '.join(config.mqtt.hosts)} received: its subscribers, and its queues for those away")
        if not runs:
            found.append("the occupancy that the broker keeps: no daemon runs that would replace it")
    if config.webhook.url is not None:
        found.append(f"events that {urlsplit(config.webhook.url).hostname} accepted")
    if config.model.path.startswith("triton"):
        found.append("images that the server of the model received")
    return found
