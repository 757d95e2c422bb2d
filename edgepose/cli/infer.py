"""`edgepose infer`: a video or pictures into files."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option, model_option, refine_people_option, refiner_option

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
@click.option("--output", "-o", type=_file, metavar="FILE", help="Write one pose message a line (JSON lines); - is standard output.")
@click.option("--csv", type=_file, metavar="FILE", help="Write one row a person; - is standard output.")
@click.option("--video", type=_file, metavar="FILE", help="Write an annotated MP4.")
@click.option("--images", type=_file, metavar="DIR", help="Write annotated pictures into a folder.")
@click.option(
    "--track/--no-track", default=None, help="Give people numbers that stay with them; on by default for videos, off for pictures."
)
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
    """Find the people in SOURCE and write them to files, every frame of it.

    SOURCE is a video file, an image, a folder of images, or a stream, which is followed until ctrl-c.
    """
    import time
    from contextlib import suppress

    import msgspec
    from msgspec.structs import replace

    from edgepose.capture.source import open_source, path_of
    from edgepose.cli.log import log_to_stderr
    from edgepose.cli.progress import progress
    from edgepose.config.cross_checks import check_together
    from edgepose.config.load import DEFAULT_PATH, load
    from edgepose.config.schema import CameraConfig, FilesConfig
    from edgepose.engine.backend import open_backend
    from edgepose.errors import UsageError
    from edgepose.messages.compose import poses_message
    from edgepose.model.file import named_model
    from edgepose.output.files import STANDARD_OUTPUT
    from edgepose.pipeline.file_sinks import open_sinks
    from edgepose.pipeline.offline import people_in
    from edgepose.pipeline.refiner import Refiner
    from edgepose.supervision.signals import signals
    from edgepose.telemetry.metrics import Metrics

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
    config = load(config_file, settings)
    camera = "stream" if path_of(source) is None else Path(source).stem or "source"
    config = replace(config, cameras={camera: CameraConfig(source=source)})
    config = replace(config, files=FilesConfig(jsonl=names[0], csv=names[1], video=names[2], images=names[3]))
    check_together(config, config_file or DEFAULT_PATH)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    if refiner is not None:
        config = replace(config, refine=replace(config.refine, path=refiner, people=config.refine.people or config.pose.maximum_people))
    if refine_people is not None:
        config = replace(config, refine=replace(config.refine, people=refine_people))
    if track is None:
        track = config.track.enabled and not _is_pictures(source)
    config = replace(config, track=replace(config.track, enabled=track))

    file = named_model(config.model.path, "pose")
    frames = people = 0
    metrics = Metrics()
    second = Refiner.configured(config, metrics)
    opened = open_source(camera, config.cameras[camera])
    backend = open_backend(file, config.model)
    if second is not None:
        second.open()
    sinks = open_sinks(config, afresh=True)
    start_s = time.monotonic()
    try:
        # A pipe's reader that has had enough ends the run in order, and the summary is told.
        with suppress(BrokenPipeError), signals() as (stop, _), progress("frames", quiet=quiet or as_json) as advance:
            for frame, found in people_in(opened, backend, file.info, config, metrics, second):
                message = poses_message(frame, found, time.time_ns())
                for sink in sinks:
                    sink.write(frame, found, message)
                frames += 1
                people += len(found)
                advance()
                if stop.is_set():  # between two frames, so that all files end with the same one
                    break
    finally:
        for sink in sinks:
            sink.close()
        backend.close()
        if second is not None:
            second.close()
    if stop.is_set() and not opened.live:  # a file was not meant to end here; of a stream it is the only way
        click.echo(f"edgepose: interrupted: the files hold {frames} frames, {people} people", err=True)
        raise KeyboardInterrupt
    elapsed_s = time.monotonic() - start_s
    rate = round(frames / elapsed_s, 1) if elapsed_s > 0 else 0.0
    looks = metrics.refinement()
    again = looks.accepted + looks.disagreed if looks is not None else 0
    corrupt = opened.corrupt_frames
    if as_json:
        summary = {
            "frames": frames,
            "corrupt": corrupt,
            "people": people,
            "frames_per_second": rate,
            "model": file.path.name,
            "backend": backend.name,
        }
        if second is not None:
            summary |= {"refiner": second.model.path.name, "refined": again}
        click.echo(msgspec.json.encode(summary))
    elif not quiet:
        refined = f", {again} refined" if second is not None else ""
        damaged = f", {corrupt} could not be decoded" if corrupt else ""
        click.echo(f"{frames} frames{damaged}, {people} people{refined}, {rate} frames/s", err=True)


def _is_pictures(source: str) -> bool:
    from edgepose.capture.images import IMAGE_SUFFIXES

    path = Path(source)
    return path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES
