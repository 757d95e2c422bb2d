"""Command `edgepose bench`: how fast this machine is."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import astuple

from edgepose.cli.options import configuration_options, json_option, model_option

if TYPE_CHECKING:
    from edgepose.diagnostics.bench_compare import Change
    from edgepose.diagnostics.bench_result import BenchResult, BenchRow


@click.command("bench", short_help="Measure the engine, the daemon and the startup.", epilog="Example: edgepose bench walk.mp4 --json")
@click.argument("source", required=False)
@model_option
@click.option("--rounds", type=click.IntRange(1, 100), default=6, show_default=True, help="Rounds of measurements.")
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Length of each measurement, in seconds.")
@click.option("--cameras", type=click.IntRange(1, 64), default=1, show_default=True, help="Cameras that play the source at once.")
@click.option(
    "--compare",
    "old",
    type=click.Path(path_type=Path),
    metavar="OLD.json",
    help="Compare with what an earlier run wrote with --json, with confidence intervals of 99 %.",
)
@json_option
@configuration_options
def command(
    source: str | None,
    model: str | None,
    rounds: int,
    seconds: float,
    cameras: int,
    old: Path | None,
    as_json: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
) -> None:
    """Measure the engine alone, the pipeline without capture and the whole daemon in turns, and the time from start to the first pose.

    There are two rows: the pose network alone (no refinement, tiles and camera motion), and the configuration as it is.

    SOURCE is a video, an image or a folder of images with people in them; the default is the demo's video where it is
    available, and a synthetic clip otherwise.
    """
    import msgspec
    from msgspec.structs import replace

    from edgepose.cli.progress import progress
    from edgepose.config.load import load
    from edgepose.diagnostics.bench import bench, bench_source, steps
    from edgepose.diagnostics.bench_compare import compare, read_result

    before = None if old is None else read_result(old)
    config = load(config_file, settings)
    if model is not None:
        config = replace(config, model=replace(config.model, path=model))
    with ExitStack() as stack:
        video = stack.enter_context(bench_source(source))
        advance = stack.enter_context(progress("measurements", total=steps(rounds), quiet=as_json))
        result = bench(config, video, rounds=rounds, seconds=seconds, cameras=cameras, done=advance)
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        _show(result)
    if before is not None:
        _show_changes(compare(before, result), err=as_json)


def _show(result: "BenchResult") -> None:
    from rich.console import Console
    from rich.table import Table

    cameras = f", {result.cameras} cameras" if result.cameras > 1 else ""
    click.echo(f"{result.model} on {result.backend} ({result.device}), {result.source}{cameras}")
    rows = (("pose network alone", result), ("default", result.default))
    table = Table("", *(name for name, _ in rows))
    for label, value in _LINES:
        table.add_row(label, *(value(row) for _, row in rows))
    console = Console()
    console.print(table)
    for name, row in rows:
        click.echo(f"{name}, stages: milliseconds of the clock, and of a core (mean)")
        table = Table("stage", "p50 ms", "p95 ms", "p99 ms", "maximum ms", "core ms")
        for stage in dict.fromkeys((*row.stages, *row.core_ms)):
            latency, core_ms = row.stages.get(stage), row.core_ms.get(stage)
            times = ("", "", "", "") if latency is None else tuple(f"{value:.2f}" for value in astuple(latency))
            table.add_row(stage, *times, "" if core_ms is None else f"{core_ms:.3f}")
        console.print(table)


def _memory(row: "BenchRow") -> str:
    shown = (row.peak_rss_mb, row.peak_pss_mb, row.peak_cgroup_mb)
    return " / ".join("-" if value is None else f"{value:.0f}" for value in shown)


def _refine(row: "BenchRow") -> str:
    if row.refine is None:
        return "nobody"
    return f"{row.refine.people_per_frame:.2f} people per frame by {row.refine.refiner}, {row.refine.cost_ms:.1f} ms each"


_LINES = (
    ("engine alone, frames/s", lambda row: f"{row.engine_fps:.1f}"),
    ("pipeline without capture, frames/s", lambda row: f"{row.pipeline_fps:.1f}"),
    ("whole daemon, frames/s", lambda row: f"{row.daemon_fps:.1f}"),
    ("daemon / engine, median of each round's", lambda row: f"{row.ratio:.2f}"),
    ("time of all networks / time of a frame", lambda row: f"{row.networks:.2f}"),
    ("core ms a frame outside networks and decoding", lambda row: f"{row.outside_ms:.2f}"),
    ("age of poses of live cameras, p50 / p95 / p99 ms", lambda row: " / ".join(f"{value:.0f}" for value in astuple(row.live.age)[:3])),
    ("first pose, s after start", lambda row: f"{row.first_pose_s:.2f}"),
    ("peak memory, MiB: RSS / PSS / control group", _memory),
    ("refined", _refine),
)


def _show_changes(changes: "list[Change]", *, err: bool) -> None:
    for change in changes:
        told = "changed" if change.significant else "no change to tell"
        click.echo(
            f"{change.row}: {change.measure} {change.before:.3f} -> {change.after:.3f}: {change.change:+.1%}"
            f" ({change.low:+.1%} to {change.high:+.1%}): {told}",
            err=err,
        )
