"""Command `edgepose replay`: the messages of a black-box recording, computed again."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option

_file = click.Path(path_type=Path)


@click.command(
    "replay",
    short_help="Replay a recording of the black box.",
    epilog="Example: edgepose replay /var/lib/edgepose/black-box/20261122T100000Z-inference-restarted --output poses.jsonl",
)
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--output", "-o", type=_file, metavar="FILE", help="Write the pose messages, one a line; - is standard output.")
@click.option("--events", type=_file, metavar="FILE", help="Write the event messages, one a line; - is standard output.")
@configuration_options
@json_option
def command(
    recording: Path, output: Path | None, events: Path | None, config_file: Path | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Postprocess the inference results of a RECORDING again: people and events give the same messages, byte for byte.

    RECORDING is a folder that the black box made (`black_box.path`), or one of its segments. Without `--output` and `--events`, its
    contents are listed: states of the cameras, events, lost records. The configuration is read for the key of stored data only.
    """
    from collections import Counter
    from contextlib import ExitStack

    import msgspec

    from edgepose import __version__
    from edgepose.cli.live_table import event_line
    from edgepose.config.load import load
    from edgepose.encryption.files import ClearFiles
    from edgepose.encryption.start import use_configured_files
    from edgepose.errors import UsageError
    from edgepose.messages.compose import event_message, poses_message
    from edgepose.messages.structs import timestamp
    from edgepose.output.files import STANDARD_OUTPUT, JsonLinesWriter
    from edgepose.pipeline.replay import FailedFrame, refuse_overwriting, replay
    from edgepose.printable import printable
    from edgepose.recorder.format import LossRecord, SegmentHeader, StateRecord

    if config_file is not None or settings:
        use_configured_files(load(config_file, settings))
    names = [str(path) for path in (output, events) if path is not None]
    on_screen = sum(name in STANDARD_OUTPUT for name in names)
    if on_screen > 1 or (on_screen and as_json):
        raise UsageError("two things would go to standard output; expected one of --output -, --events - and --json there")
    refuse_overwriting(recording, [path for path in (output, events) if path is not None and str(path) not in STANDARD_OUTPUT])
    listing = not names and not as_json
    counts: Counter[str] = Counter()
    versions: set[str] = set()
    models: set[str] = set()
    with ExitStack() as files:
        writers = [
            files.enter_context(JsonLinesWriter(path, overwrite=True, files=ClearFiles())) if path is not None else None
            for path in (output, events)
        ]
        for replayed in replay(recording):
            if isinstance(replayed, SegmentHeader):
                counts["segments"] += 1
                versions.add(replayed.edgepose)
                models.add(f"{replayed.model} {replayed.sha256[:12]}")
            elif isinstance(replayed, LossRecord):
                counts["lost"] += replayed.records or 0
                counts["damaged"] += replayed.damaged
                if listing:
                    number = "an unknown number of" if replayed.records is None else replayed.records
                    click.echo(f"{number} records were {'damaged' if replayed.damaged else 'lost'} here")
            elif isinstance(replayed, StateRecord):
                counts["states"] += 1
                if listing:
                    cause = printable(f" ({replayed.cause}: {replayed.detail})") if replayed.cause else ""
                    click.echo(
                        f"{timestamp(replayed.at_ns)[11:19]} camera {replayed.camera}: {replayed.state}{cause}, epoch {replayed.epoch}"
                    )
            elif isinstance(replayed, FailedFrame):
                counts["failed"] += 1
                if listing:
                    click.echo(f"frame {replayed.frame.sequence} of camera {replayed.frame.camera} failed when it was recorded")
            else:
                counts["frames"] += 1
                counts["people"] += len(replayed.people)
                counts["events"] += len(replayed.events)
                if writers[0] is not None:
                    writers[0].write(poses_message(replayed.frame, replayed.people, replayed.at_ns, aircraft=replayed.aircraft))
                for event in replayed.events:
                    message = event_message(event)
                    if writers[1] is not None:
                        writers[1].append(msgspec.json.encode(message) + b"\n")
                    if listing:
                        click.echo(f"{event.camera}: {event_line(message)}")
    if counts["damaged"]:
        click.echo(f"edgepose: {recording} is damaged: what verifies is replayed, and results after missing records may differ", err=True)
    if versions - {__version__}:
        click.echo(f"edgepose: recorded by version {', '.join(sorted(versions))}, replayed by {__version__}: results may differ", err=True)
    if as_json:
        keys = ("segments", "frames", "failed", "people", "events", "states", "lost")
        click.echo(msgspec.json.encode({key: counts[key] for key in keys} | {"edgepose": sorted(versions), "models": sorted(models)}))
    elif not on_screen:
        click.echo(
            f"{counts['frames']} frames, {counts['people']} people, {counts['events']} events, {counts['lost']} records lost; "
            f"network {', '.join(sorted(models))}",
            err=not listing,
        )
