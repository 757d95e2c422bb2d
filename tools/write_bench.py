"""Benchmark of this machine, written to docs/performance.md (`make bench`).

python -m tools.write_bench docs/performance.md [VIDEO] [--rounds 6] [--seconds 2] [--json build/bench.json]
"""

from datetime import datetime, timezone
from pathlib import Path

import click
import msgspec

from edgepose.config.schema import Config
from edgepose.diagnostics.bench import bench, bench_source, steps
from edgepose.diagnostics.bench_result import BenchRow
from tools.machine import machine
from tools.write_reference import with_table


def _mb(row: BenchRow) -> str:
    shown = (row.peak_rss_mb, row.peak_pss_mb, row.peak_cgroup_mb)
    return " / ".join("-" if value is None else f"{value:.0f}" for value in shown) + " MiB"


def table(rows: tuple[BenchRow, BenchRow]) -> str:
    """Return the table of two rows: the pose network alone, and the default."""
    lines = {
        "engine alone": [f"{row.engine_fps:.1f} frames/s" for row in rows],
        "pipeline without capture": [f"{row.pipeline_fps:.1f} frames/s" for row in rows],
        "whole daemon": [f"{row.daemon_fps:.1f} frames/s" for row in rows],
        "daemon / engine": [f"{row.ratio:.2f}" for row in rows],
        "time of all networks / time of a frame": [f"{row.networks:.2f}" for row in rows],
        "core time outside networks and decoding": [f"{row.outside_ms:.2f} ms" for row in rows],
        "of it by stage": [
            ", ".join(f"{stage} {value:.2f}" for stage, value in row.core_ms.items() if stage not in ("engine", "decoding")) + " ms"
            for row in rows
        ],
        "decoding": [f"{row.core_ms['decoding']:.2f} ms" for row in rows],
        "age of poses of a live camera, p50 / p95 / p99": [
            f"{row.live.age.p50_ms:.0f} / {row.live.age.p95_ms:.0f} / {row.live.age.p99_ms:.0f} ms at {row.live.rate:.0f} frames/s"
            for row in rows
        ],
        "from start to the first pose": [f"{row.first_pose_s:.2f} s" for row in rows],
        "peak memory: RSS / PSS / control group": [_mb(row) for row in rows],
    }
    return "\n".join(
        ["| | pose network alone | default |", "|---|---|---|", *(f"| {name} | {' | '.join(both)} |" for name, both in lines.items())]
    )


@click.command(epilog="Example: python -m tools.write_bench docs/performance.md build/vtest.avi")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("source", required=False)
@click.option("--rounds", type=int, default=6)
@click.option("--seconds", type=float, default=2.0)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="file that the result is written to, for --compare")
def main(document: Path, source: str | None, rounds: int, seconds: float, json_file: Path | None) -> None:
    """Measure SOURCE and write the table into DOCUMENT."""
    with bench_source(source) as video:
        done = iter(range(1, steps(rounds) + 1))
        result = bench(
            Config(),
            video,
            rounds=rounds,
            seconds=seconds,
            done=lambda: click.echo(f"{next(done)} of {steps(rounds)} measurements", err=True),
        )
    if json_file is not None:
        json_file.write_bytes(msgspec.json.encode(result))
    title = (
        f"`make bench`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {result.model} on {result.backend} ({result.device}), "
        f"{Path(result.source).name}, beside other programs:"
    )
    text = f"{title}\n\n{table((result, result.default))}"
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "bench", text), encoding="utf-8")


if __name__ == "__main__":
    main()
