"""Command `edgepose infer`: the poses of a video or of pictures, in files."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepose.cli.options import configuration_options, json_option, model_option, refine_people_option, refiner_option

if TYPE_CHECKING:
    from edgepose.pipeline.offline import Summary

_file = click.Path(path_type=Path)


@click.command(
    "infer",
    short_help="Turn a video or pictures into files.",
    epilog="Example: edgepose infer walk.mp4 --output poses.jsonl --video annotated.mp4",
)
@click.argument("source")
@model_option
@refiner_option
@refine_people_option
@click.option("--output", "-o", type=_file, metavar="FILE", help="Write one pose message per line (JSON lines); - is standard output.")
@click.option("--csv", type=_file, metavar="FILE", help="Write one row per person; - is standard output.")
@click.option("--video", type=_file, metavar="FILE", help="Write an annotated MP4.")
@click.option("--images", type=_file, metavar="DIR", help="Write annotated pictures into a folder.")
@click.option("--track/--no-track", default=None, help="Assign track numbers to people; on by default for videos, off for pictures.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@configuration_options
def command(
    source: str,
    model: str | None,
    refiner: str | None,
    refine_people: int | None,
    output: Path | None,
    csv: Path | None,
    video: Path | None,
    images: Path | None,
    track: bool | None,
    quiet: bool,
    as_json: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Find the people in every frame of SOURCE and write them to files.

    SOURCE is a video file, an image, a folder of images, or a stream, which is followed until Ctrl-C.
    """
    import msgspec

    from edgepose.cli.log import log_to_stderr
    from edgepose.cli.progress import progress
    from edgepose.config.cross_checks import check_together
    from edgepose.config.load import DEFAULT_PATH, load
    from edgepose.config.schema import FilesConfig
    from edgepose.errors import UsageError
    from edgepose.output.files import STANDARD_OUTPUT
    from edgepose.pipeline.offline import OfflineRun, offline_config
    from edgepose.supervision.signals import signals

    if not source:
        raise UsageError("SOURCE is empty; expected a video file, an image, a folder of images or a stream")
    for key in (setting.partition("=")[0].strip() for setting in settings):
        if key.partition(".")[0] in ("files", "cameras"):
            raise UsageError(f"--set {key} has no effect here; expected SOURCE, and --output, --csv, --video or --images")
    if video is not None and video.suffix.lower() != ".mp4":
        raise UsageError(f"--video is {video}; expected the name of a file that ends in .mp4")
    names = [str(path) if path is not None else None for path in (output, csv, video, images)]
    if not any(names):
        raise UsageError("nothing to write was named; expected --output, --csv, --video or --images")
    if as_json and any(name in STANDARD_OUTPUT for name in names):
        raise UsageError("--json and poses would both go to standard output; expected one of them there")
    log_to_stderr("warning")
    files = FilesConfig(jsonl=names[0], csv=names[1], video=names[2], images=names[3])
    config = offline_config(
        load(config_file, settings), source, files, model=model, refiner=refiner, refine_people=refine_people, track=track
    )
    check_together(config, config_file or DEFAULT_PATH)
    with OfflineRun(config) as run, signals() as (stop, _), progress("frames", quiet=quiet or as_json) as advance:
        summary = run.run(advance, stop.is_set)
    if summary.interrupted:
        click.echo(f"edgepose: interrupted: the files hold {summary.frames} frames, {summary.people} people", err=True)
        raise KeyboardInterrupt
    if as_json:
        click.echo(msgspec.json.encode(_json(summary)))
    elif not quiet:
        refined = f", {summary.refined} refined" if summary.refined is not None else ""
        damaged = f", {summary.corrupt} could not be decoded" if summary.corrupt else ""
        over = f" ({summary.over_limit} more left out, pose.maximum_people)" if summary.over_limit else ""
        rate = f"{summary.frames_per_second} frames/s"
        click.echo(f"{summary.frames} frames{damaged}, {summary.people} people{over}{refined}, {rate}", err=True)


def _json(summary: "Summary") -> dict[str, int | float | str | None]:
    """Return the JSON object, in the order of its documentation."""
    values: dict[str, int | float | str | None] = {
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
    return values
