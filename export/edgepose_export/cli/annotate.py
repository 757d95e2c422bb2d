"""`edgepose-export annotate`: the poses of a whole archive."""

from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option, model_option, refine_people_option, refiner_option


@click.command(epilog="Example: edgepose-export annotate /mnt/footage s3://archive/2026/ --output poses --start 2026-11-29T10:00:00Z")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--output", "-o", required=True, metavar="DIR", help="Folder of the results: a path, or an address that fsspec knows.")
@model_option
@refiner_option
@refine_people_option
@click.option("--track/--no-track", default=None, help="Assign track numbers to people; on by default.")
@click.option("--start", metavar="TIME", help="Capture time of the first frame of each video; the file's last change if absent.")
@click.option("--workers", type=click.IntRange(1, 4096), metavar="N", help="Workers, each with a network; more than 1 runs on Ray.")
@click.option("--cluster", metavar="ADDRESS", help="Run on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT.")
@click.option("--chunk-s", type=click.FloatRange(1), default=60.0, show_default=True, help="Longer videos are cut at key frames for Ray.")
@click.option("--cpus", type=click.FloatRange(0.1), default=1.0, show_default=True, help="Cores of the cluster for each worker.")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, show_default=True, help="GPUs of the cluster for each worker.")
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@json_option
@configuration_options
def annotate(
    sources: tuple[str, ...],
    output: str,
    model: str | None,
    refiner: str | None,
    refine_people: int | None,
    track: bool | None,
    start: str | None,
    workers: int | None,
    cluster: str | None,
    chunk_s: float,
    cpus: float,
    gpus: float,
    quiet: bool,
    as_json: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Write the people of every frame of all videos that the SOURCEs name, as JSON lines and as Parquet, and their events.

    SOURCE is a video file, a folder with all below it, a pattern, a list (.txt), or one of them on an object store (s3://, gs://, …).

    A video whose results are complete is not read again: the same command continues a run. The exit code is 66 where one cannot be read.
    """
    import dataclasses

    import msgspec

    from edgepose.cli.infer import time_ns
    from edgepose.cli.log import log_to_stderr
    from edgepose.cli.progress import progress
    from edgepose.config.load import load
    from edgepose.errors import SourceError
    from edgepose.supervision.signals import signals
    from edgepose_export.archive.run import Progress, run_here
    from edgepose_export.archive.videos import find_videos
    from edgepose_export.archive.worker import AnnotateSettings

    log_to_stderr("warning")
    on_ray = cluster is not None or (workers or 1) > 1
    run = AnnotateSettings(
        config=load(config_file, settings),
        output=str(Path(output).resolve()) if on_ray and "://" not in output else output,
        start_ns=None if start is None else time_ns(start),
        chunk_s=chunk_s,
        model=model,
        refiner=refiner,
        refine_people=refine_people,
        track=track,
    ).with_networks()
    here = [str(Path(source).resolve()) if on_ray and "://" not in source else source for source in sources]
    videos, skipped = find_videos(here)
    with signals() as (stop, _), progress("frames" if not on_ray else "steps", quiet=quiet or as_json) as line:
        tells = Progress(line.begin, line, stop.is_set)
        if on_ray:
            from edgepose_export.archive.cluster import ClusterOptions, run_on_cluster

            summary = run_on_cluster(videos, run, ClusterOptions(cluster, workers or 1024, cpus, gpus), tells)
        else:
            summary = run_here(videos, run, tells)
    if as_json:
        click.echo(msgspec.json.encode(dataclasses.asdict(summary) | {"skipped": skipped}))
    elif not quiet:
        before = f" ({summary.before} before)" if summary.before else ""
        click.echo(f"{summary.videos} of {len(videos)} videos{before}, {summary.frames} frames, {summary.people} people", err=True)
        for kind, number in skipped.items():
            click.echo(f"skipped: {number} {kind}", err=True)
        for source, missing in summary.missing.items():
            click.echo(f"cut: {source}: {missing}", err=True)
    if summary.interrupted:
        raise KeyboardInterrupt
    if summary.failed:
        source, reason = next(iter(summary.failed.items()))
        raise SourceError(f"{len(summary.failed)} of {len(videos)} videos have no results; the first is {source}: {reason}", "failed")
