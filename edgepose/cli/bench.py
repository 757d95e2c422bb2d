"""Command `edgepose bench`: how fast this machine is."""

from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path

import click

from edgepose.cli.options import configuration_options, json_option, model_option


@click.command("bench", short_help="Measure the engine, the daemon and the startup.", epilog="Example: edgepose bench walk.mp4 --json")
@click.argument("source", required=False)
@model_option
@click.option("--rounds", type=click.IntRange(1, 100), default=6, show_default=True, help="Pairs of measurements.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Length of each measurement, in seconds.")
@json_option
@configuration_options
def command(
    source: str | None, model: str | None, rounds: int, seconds: float, as_json: bool, config_file: Path | None, settings: tuple[str, ...]
) -> None:
    """Measure the engine alone and the whole daemon in turns, and the time from start to the first pose.

    SOURCE is a video, an image or a folder of images with people in them; the default is the demo's video where it is
    available, and a synthetic clip otherwise.
    """
    import msgspec
    from msgspec.structs import replace
    from rich.console import Console
    from rich.table import Table

    from edgepose.cli.progress import progress
    from edgepose.config.load import load
    from edgepose.diagnostics.bench import bench, bench_source

    config = load(config_file, settings)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    with ExitStack() as stack:
        video = stack.enter_context(bench_source(source))
        advance = stack.enter_context(progress("measurements", total=2 * rounds + 1, quiet=as_json))
        result = bench(config, video, rounds=rounds, seconds=seconds, done=advance)
    if as_json:
        click.echo(msgspec.json.encode(result))
        return
    click.echo(f"{result.model} on {result.backend} ({result.device}), {result.source}")
    click.echo(f"engine alone    {result.engine_fps:8.1f} frames/s\nwhole daemon    {result.daemon_fps:8.1f} frames/s")
    click.echo(f"daemon / engine {result.ratio:8.2f} (median of the ratios of each round, not the ratio of the medians above)")
    click.echo(f"first pose      {result.first_pose_s:8.2f} s after start\npeak memory     {result.peak_rss_mb:8.1f} MiB")
    refine = result.refine
    if refine is not None:
        click.echo(
            f"refined         {refine.people_per_frame:8.2f} people per frame by {refine.refiner}, {refine.cost_ms:.1f} ms each, "
            "in the daemon only"
        )
    table = Table("stage", "p50 ms", "p95 ms", "p99 ms", "maximum ms")
    for stage, latency in result.stages.items():
        table.add_row(stage, *(f"{value:.2f}" for value in astuple(latency)))
    Console().print(table)
