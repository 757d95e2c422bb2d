"""The time from the start of a process to its first pose, of this version and of b74093e, in turns in one run (`make start`).

    python -m tools.compare_start docs/performance.md VIDEO OLD OLD_MODEL [--rounds 8]

OLD is a checkout of version b74093e, which runs in this environment, and OLD_MODEL a pose network that it can read. Each daemon plays
VIDEO into a file, with refinement, tiles, camera motion and MQTT off. Core time is that of all threads until the file has a line.
"""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import click

from tools.machine import core_s, machine
from tools.write_reference import with_table

_ROOT = Path(__file__).parents[1]
_ALONE = ("refine.people=0", "tiles.enabled=false", "motion.enabled=false")  # b74093e has none of these
_WITHIN_S = 120.0
_AFTER_S = 1.0
"""Time after the first pose in which memory may still rise."""


class Start(NamedTuple):
    """One start: seconds until the first pose, by the clock and of core time, and the peak of resident memory in MiB."""

    wall_s: float
    core_s: float
    peak_mib: float


def start(root: Path, settings: tuple[str, ...]) -> Start:
    """Start a daemon of the version in a folder and end it after its first pose; ClickException where it shows none."""
    with tempfile.TemporaryDirectory() as folder:
        poses = Path(folder) / "poses.jsonl"
        command = [sys.executable, "-m", "edgepose", "run"]
        for setting in (*settings, f"files.jsonl={poses}", "mqtt.enabled=false"):
            command += ["--set", setting]
        began_s = time.perf_counter()
        with subprocess.Popen(
            command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as daemon:
            try:
                while not (poses.exists() and poses.stat().st_size):
                    if daemon.poll() is not None or time.perf_counter() - began_s > _WITHIN_S:
                        raise click.ClickException(f"{root}: no pose (exit code {daemon.returncode}); expected one: {' '.join(command)}")
                    time.sleep(0.002)
                wall_s = time.perf_counter() - began_s
                used_s = core_s(daemon.pid)
                time.sleep(_AFTER_S)
                status = Path(f"/proc/{daemon.pid}/status").read_text()
            finally:
                daemon.terminate()
    peak_kib = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
    return Start(wall_s, used_s, peak_kib / 1024)


def table(starts: dict[str, list[Start]]) -> str:
    """Return the table of two versions, `b74093e` and `now`, from the same number of starts of each."""
    old, now = (Start(*(statistics.median(values) for values in zip(*starts[name], strict=True))) for name in ("b74093e", "now"))
    ratios = [after.core_s / before.core_s for before, after in zip(starts["b74093e"], starts["now"], strict=True)]
    times = f"{statistics.median(ratios):.2f} times; the rounds: {min(ratios):.2f} to {max(ratios):.2f}"
    return "\n".join(
        [
            "| to the first pose, medians | b74093e | now |",
            "|---|---|---|",
            f"| core time | {old.core_s:.2f} s | {now.core_s:.2f} s ({times}) |",
            f"| time | {old.wall_s:.2f} s | {now.wall_s:.2f} s ({now.wall_s / old.wall_s:.2f} times) |",
            f"| peak of resident memory | {old.peak_mib:.0f} MiB | {now.peak_mib:.0f} MiB |",
        ]
    )


@click.command()
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("video", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("old", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("old_model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rounds", type=click.IntRange(1), default=8)
def main(document: Path, video: Path, old: Path, old_model: Path, rounds: int) -> None:
    """Measure and write the table into DOCUMENT."""
    load = os.getloadavg()[0]
    camera = (f"cameras.bench.source={video.resolve()}", "cameras.bench.loop=true")
    versions = {
        "b74093e": (old.resolve(), (*camera, f"model.path={old_model.resolve()}")),
        "now": (_ROOT, (*camera, "model.path=ghost-n", *_ALONE)),
    }
    for root, _ in versions.values():
        compileall.compile_dir(root / "edgepose", quiet=1)
    starts: dict[str, list[Start]] = {name: [] for name in versions}
    for turn in range(rounds + 1):
        for name in sorted(versions, reverse=bool(turn % 2)):
            one = start(*versions[name])
            if turn:  # the first fills the cache of files
                starts[name].append(one)
    cores = len(os.sched_getaffinity(0))
    title = (
        f"`make start`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {cores} of them used, {video.name}, {rounds} rounds in turns,"
        f" load before {load:.1f}:"
    )
    text = f"{title}\n\n{table(starts)}"
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "start", text), encoding="utf-8")


if __name__ == "__main__":
    main()
