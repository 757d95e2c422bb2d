"""Command `edgepose infer`: the poses of videos, pictures and streams, in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepose.cli.options import configuration_options, json_option, model_option, refine_people_option, refiner_option

if TYPE_CHECKING:
    from edgepose.config.schema import Config
    from edgepose.pipeline.offline.run import Summary

_file = click.Path(path_type=Path)

_NAMED = 5  # names of skipped files that a line shows


@click.command(
    "infer",
    short_help="Turn videos or pictures into files.",
    epilog="Example: edgepose infer walk.mp4 --output poses.jsonl --video annotated.mp4",
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@model_option
@refiner_option
@refine_people_option
@click.option("--output", "-o", type=_file, metavar="FILE", help="Write one pose message per line (JSON lines); - is standard output.")
@click.option("--csv", type=_file, metavar="FILE", help="Write one row per person; - is standard output.")
@click.option("--coco", type=_file, metavar="FILE", help="Write COCO results (JSON), and the table of their images beside them.")
@click.option("--video", type=_file, metavar="FILE", help="Write an annotated MP4; of several sources, one each.")
@click.option("--images", type=_file, metavar="DIR", help="Write annotated pictures into a folder, named after their files.")
@click.option("--track/--no-track", default=None, help="Assign track numbers to people; on by default for videos, off for pictures.")
@click.option(
    "--rate", type=click.FloatRange(0.001, 1000), metavar="N", help="Frames per second of pictures and raw streams; 25 if absent."
)
@click.option("--start", metavar="TIME", help="Capture time of the first frame of each file, such as 2026-11-29T10:00:00Z.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@configuration_options
def command(
    sources: tuple[str, ...],
    model: str | None,
    refiner: str | None,
    refine_people: int | None,
    output: Path | None,
    csv: Path | None,
    coco: Path | None,
    video: Path | None,
    images: Path | None,
    track: bool | None,
    rate: float | None,
    start: str | None,
    quiet: bool,
    as_json: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Find the people in every frame of each SOURCE and write them to files.

    SOURCE is a video file, an image, a folder of images, a pattern ('frames/*.png', frame_%04d.png), a list (.txt, one source a line), a
    video on standard input (-), or a stream, which is followed until it ends or Ctrl-C.

    Without an output, each video becomes NAME.annotated.mp4, and pictures go into the folder annotated.
    """
    import msgspec

    from edgepose.cli.log import log_to_stderr
    from edgepose.cli.progress import progress
    from edgepose.config.cross_checks import check_together
    from edgepose.config.load import DEFAULT_PATH
    from edgepose.config.schema import FilesConfig
    from edgepose.errors import SourceError, UsageError
    from edgepose.output.files import STANDARD_OUTPUT
    from edgepose.pipeline.offline.run import OfflineRun
    from edgepose.pipeline.offline.settings import offline_config
    from edgepose.storage.access import limit_access
    from edgepose.supervision.signals import signals
    from edgepose.validation.inputs import find_inputs

    for key in (setting.partition("=")[0].strip() for setting in settings):
        if (key.partition(".")[0] == "files" and key != "files.access") or (key.startswith("cameras.") and key.endswith(".source")):
            raise UsageError(f"--set {key} has no effect here; expected SOURCE, and --output, --csv, --coco, --video or --images")
    if video is not None and video.suffix.lower() != ".mp4":
        raise UsageError(f"--video is {video}; expected the name of a file that ends in .mp4")
    names = [str(path) if path is not None else None for path in (output, csv, video, images)]
    if as_json and any(name in STANDARD_OUTPUT for name in names):
        raise UsageError("--json and poses would both go to standard output; expected one of them there")
    start_ns = time_ns(start) if start is not None else None
    log_to_stderr("warning")
    found = find_inputs(sources)
    configured, lenders = _configuration(config_file, settings, found.inputs[0].source)
    files = FilesConfig(jsonl=names[0], csv=names[1], video=names[2], images=names[3])
    limit_access(configured.files.access)
    config = offline_config(
        configured,
        found.inputs,
        files,
        model=model,
        refiner=refiner,
        refine_people=refine_people,
        track=track,
        rate=rate,
        cameras=lenders,
    )
    check_together(config, config_file or DEFAULT_PATH)
    run = OfflineRun(
        config,
        found.inputs,
        coco=coco,
        default_outputs=not any(names) and coco is None,
        start_ns=start_ns,
        track_images=bool(track),
    )
    with run, signals() as (stop, _), progress("frames", quiet=quiet or as_json) as line:
        try:
            summary = run.run(line, stop.is_set, line.begin)
        except SourceError:
            summary = run.summary()
            if summary.frames and not quiet:  # what was written stays
                click.echo(_sentence(summary), err=True)
            raise
    for cause, skipped in found.skipped.items():
        summary.skipped.setdefault(cause, []).extend(skipped)
    if summary.interrupted:
        click.echo(f"edgepose: interrupted: the files hold {summary.frames} frames, {summary.people} people", err=True)
        raise KeyboardInterrupt
    if as_json:
        click.echo(msgspec.json.encode(_json(summary, run.written)))
    elif not quiet:
        for text in (_sentence(summary), *_details(summary, run.written)):
            click.echo(text, err=True)


def _configuration(config_file: Path | None, settings: Sequence[str], source: str) -> "tuple[Config, list[str]]":
    """Return the configuration, and the cameras that `--set` names: their settings apply to the sources of the command line."""
    from edgepose.config.load import load

    keys = [setting.partition("=")[0].strip().split(".") for setting in settings]
    named = list(dict.fromkeys(parts[1] for parts in keys if parts[0] == "cameras" and len(parts) > 2))
    if not named:
        return load(config_file, settings), []
    known = load(config_file, [setting for setting in settings if not setting.strip().startswith("cameras.")]).cameras
    added = [f"cameras.{name}.source={source}" for name in named if name not in known]
    return load(config_file, [*added, *settings]), named


def time_ns(text: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the Unix epoch."""
    from datetime import datetime, timedelta, timezone

    from edgepose.errors import UsageError

    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        time = datetime.min  # noqa: DTZ901
    if time.tzinfo is None:
        raise UsageError(f"--start is {text!r}; expected a time with its zone, such as 2026-11-29T10:00:00Z")
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000


def _sentence(summary: "Summary") -> str:
    refined = f", {summary.refined} refined" if summary.refined is not None else ""
    damaged = f", {summary.corrupt} could not be decoded" if summary.corrupt else ""
    over = f" ({summary.over_limit} more left out, pose.maximum_people)" if summary.over_limit else ""
    return f"{summary.frames} frames{damaged}, {summary.people} people{over}{refined}, {summary.frames_per_second} frames/s"


def _details(summary: "Summary", written: Sequence[str]) -> list[str]:
    """Return a line for each thing that the reader of the results has to know; cut files and jumps of time are logged as they are met."""
    from edgepose.capture.images import CAUSE_WORDS

    lines = []
    for cause, names in summary.skipped.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"skipped: {len(names)} {CAUSE_WORDS[cause]} ({', '.join(names[:_NAMED])}{more})")
    lines += [f"note: {note}" for note in summary.notes]
    if written:
        lines.append(f"written: {', '.join(written)}")
    return lines


def _json(summary: "Summary", written: Sequence[str]) -> dict[str, Any]:
    """Return the JSON object, in the order of its documentation."""
    values: dict[str, Any] = {
        "frames": summary.frames,
        "corrupt": summary.corrupt,
        "people": summary.people,
        "people_over_limit": summary.over_limit,
        "frames_per_second": summary.frames_per_second,
        "model": summary.model,
        "backend": summary.backend,
    }
    if summary.refiner is not None:
        values |= {"refiner": summary.refiner, "refined": summary.refined}
    return values | {
        "skipped": summary.skipped,
        "missing": summary.missing,
        "time_jumps": summary.time_jumps,
        "notes": summary.notes,
        "written": list(written),
    }
