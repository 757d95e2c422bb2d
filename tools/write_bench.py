"""Benchmark of this machine, written to docs/performance.md (`make bench`).

python -m tools.write_bench docs/performance.md [VIDEO] [--rounds 6] [--seconds 2] [--json build/bench.json] [--prove]

With `--prove`, it measures twice more: the same again, and with 5 % more core time for each frame, put into the stage `letterbox`.
`--compare` must tell the second from the first, and the first from its repetition not at all.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import msgspec

from edgepose.config.schema import Config
from edgepose.diagnostics.bench import bench, bench_source, steps
from edgepose.diagnostics.bench_compare import Change, compare
from edgepose.diagnostics.bench_result import BenchResult, BenchRow
from edgepose.pipeline.stages import Preprocessor
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


@contextmanager
def slower(core_ms: float) -> Iterator[None]:
    """Make the stage `letterbox` of each frame take so many core milliseconds more."""
    prepare: Callable[..., Any] = Preprocessor.prepare

    def slow(self: Preprocessor, frame: Any) -> Any:
        until_s = time.thread_time() + core_ms / 1e3
        while time.thread_time() < until_s:
            pass
        return prepare(self, frame)

    Preprocessor.prepare = slow  # type: ignore[method-assign]
    try:
        yield
    finally:
        Preprocessor.prepare = prepare  # type: ignore[method-assign]


def told(changes: list[Change]) -> str:
    """Return the changes that are more than noise, in words."""
    significant = [change for change in changes if change.significant]
    if not significant:
        return f"nothing ({len(changes)} measures)"
    return ", ".join(f"{change.measure} of {change.row} {change.change:+.1%}" for change in significant)


@click.command(epilog="Example: python -m tools.write_bench docs/performance.md build/vtest.avi")
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("source", required=False)
@click.option("--rounds", type=int, default=6)
@click.option("--seconds", type=float, default=2.0)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="file that the result is written to, for --compare")
@click.option("--prove", is_flag=True, help="show what --compare finds, and what not; it takes three times as long")
def main(document: Path, source: str | None, rounds: int, seconds: float, json_file: Path | None, prove: bool) -> None:
    """Measure SOURCE and write the table into DOCUMENT."""
    load = os.getloadavg()[0]
    with bench_source(source) as video:

        def measured() -> BenchResult:
            done = iter(range(1, steps(rounds) + 1))
            return bench(
                Config(),
                video,
                rounds=rounds,
                seconds=seconds,
                done=lambda: click.echo(f"{next(done)} of {steps(rounds)} measurements", err=True),
            )

        result = measured()
        proof = ""
        if prove:
            again = measured()
            core_ms = 0.05 * min(one.daemon_core_ms for one in result.rounds)
            with slower(core_ms):
                slow = measured()
            proof = (
                f"\n\n`--compare` of this run with the same again tells: {told(compare(result, again))}. With 5 % more core time"
                f" ({core_ms:.2f} ms in `letterbox`) it tells: {told(compare(result, slow))}."
            )
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_bytes(msgspec.json.encode(result))
    title = (
        f"`make bench`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {result.model} on {result.backend} ({result.device}), "
        f"{Path(result.source).name}, {rounds} rounds, load before {load:.1f}:"
    )
    text = f"{title}\n\n{table((result, result.default))}{proof}"
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "bench", text), encoding="utf-8")


if __name__ == "__main__":
    main()
