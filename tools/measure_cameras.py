"""Overload and many cameras: ages, fairness, and what a bad camera costs the others; writes docs/performance.md (`make cameras`).

python -m tools.measure_cameras build/vtest.avi docs/performance.md [--seconds 120]
"""

import statistics
import threading
from collections.abc import Sequence
from dataclasses import replace as replaced
from datetime import datetime, timezone
from pathlib import Path

import click
from msgspec.structs import replace

from edgepose.config.schema import CameraConfig, Config
from edgepose.diagnostics.bench import live_bench, pose_network_alone
from edgepose.diagnostics.bench_result import LiveBenchResult
from edgepose.diagnostics.bench_sources import MemorySource, first_frames
from edgepose.engine.backend import pose_model
from edgepose.errors import SourceError
from edgepose.frame import Frame
from tools.machine import machine
from tools.write_reference import with_table

_FRAMES = 24
_TURNS = 3


class _Corrupt(MemorySource):
    """A camera that floods with frames of two channels."""

    def read(self) -> Frame:
        """Return a frame that nobody can use."""
        frame = super().read()
        return replaced(frame, image=frame.image[..., :2])


class _Hanging(MemorySource):
    """A camera that sends nothing."""

    def read(self) -> Frame:
        """Wait until the source is closed, longer than any deadline."""
        threading.Event().wait(1.0)
        raise SourceError(f"camera {self.camera} sends nothing", "stalled")


def _config(config: Config, count: int, maximum_rate: float = 0.0) -> Config:
    names = [f"c{number}" for number in range(count)]
    return replace(config, cameras={name: CameraConfig(source="memory", maximum_rate=maximum_rate) for name in names})


@click.command(epilog="Example: python -m tools.measure_cameras build/vtest.avi docs/performance.md --seconds 120")
@click.argument("video", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--seconds", type=float, default=120.0, help="duration of the overload")
@click.option("--part-seconds", "part_s", type=float, default=10.0, help="duration of each other run")
def main(video: Path, document: Path, seconds: float, part_s: float) -> None:
    """Measure live cameras that repeat frames of VIDEO and write the table into DOCUMENT."""
    default = Config()
    alone = pose_network_alone(default)
    model = pose_model(default.model)
    frames = first_frames(CameraConfig(source=str(video)), _FRAMES)

    def run(config: Config, rate: float, duration_s: float, **options: object) -> LiveBenchResult:
        return live_bench(config, model, frames, rate=rate, seconds=duration_s, **options)  # type: ignore[arg-type]

    once = run(_config(alone, 1), 10.0, part_s)
    engine_fps = 1000 / once.engine.p50_ms
    lines = [
        f"`make cameras`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {video.name}; cameras in memory, {seconds:.0f} s overload.",
        "",
        "| cameras | measured | result | bar |",
        "|---|---|---|---|",
    ]

    def add(cameras: str, measured: str, result: str, bar: str) -> None:
        lines.append(f"| {cameras} | {measured} | {result} | {bar} |")
        click.echo(lines[-1])

    for name, config in (("pose network alone", alone), ("default", default)):
        rate = 2 * engine_fps
        result = run(_config(config, 1), rate, seconds)
        limit_ms = 2 * result.engine.p99_ms + 1000 / rate
        add(
            f"1 of {rate:.0f} frames/s, twice the engine's rate, {name}",
            f"p99 of the age; engine p50 {result.engine.p50_ms:.1f}, p99 {result.engine.p99_ms:.1f} ms",
            f"{result.age.p99_ms:.1f} ms (p50 {result.age.p50_ms:.1f})",
            f"≤ {limit_ms:.1f} ms",
        )
    eight, single = [], []
    for _ in range(_TURNS):
        single.append(sum(run(_config(alone, 1), 40.0, part_s).frames.values()))
        eight.append(sum(run(_config(alone, 8), 5.0, part_s).frames.values()))
    add(
        "8 of 5 frames/s",
        "frames against one camera of 40",
        f"{statistics.median(map(float, eight)) / statistics.median(map(float, single)):.3f}",
        "≥ 0.95",
    )
    crowd = run(_config(alone, 8), engine_fps / 4, part_s)
    add("8 at twice the engine's rate together", "Jain's index", f"{crowd.fairness:.4f}", "≥ 0.98")
    priorities = _config(alone, 4)
    priorities = replace(priorities, cameras={**priorities.cameras, "c0": CameraConfig(source="memory", priority=3)})
    frames_of = run(priorities, engine_fps, part_s).frames
    share = frames_of["c0"] / statistics.mean(frames_of[name] for name in ("c1", "c2", "c3"))
    add("4 at four times the engine's rate together, one with `priority: 3`", "its frames against another's", f"{share:.2f}", "3")
    limited = run(_config(alone, 1, maximum_rate=5.0), 30.0, part_s)
    add("1 of 30 frames/s with `maximum_rate: 5`", "frames/s", f"{limited.frames['c0'] / part_s:.2f}", "5")
    for name, opened in _BAD.items():
        add(
            "3 beside a bad one",
            f"frames against 3 alone; {name}",
            f"{_beside(run, alone, engine_fps, part_s, opened, frames):.3f}",
            "≥ 0.95",
        )
    document.write_text(with_table(document.read_text(encoding="utf-8"), "cameras", "\n".join(lines)), encoding="utf-8")


def _refused(name: str, camera: CameraConfig, epoch: int) -> MemorySource:
    raise SourceError(f"camera {name} refuses", "refused")


_BAD = {"refuses": "refused", "sends nothing": "hanging", "sends 200 broken frames/s": "corrupt"}


def _beside(run: object, config: Config, engine_fps: float, part_s: float, kind: str, frames: Sequence[Frame]) -> float:
    """Return the frames of three cameras beside a bad one, as a share of those of three cameras alone."""
    opened = {
        "refused": _refused,
        "hanging": lambda name, camera, epoch: _Hanging(name, frames),
        "corrupt": lambda name, camera, epoch: _Corrupt(name, frames, 200.0),
    }[kind]
    shares = []
    rate = engine_fps / 6  # half of the engine's rate together
    for _ in range(_TURNS):
        alone = sum(run(_config(config, 3), rate, part_s).frames.values())  # type: ignore[operator]
        both = sum(run(_config(config, 4), rate, part_s, bad={"c3": opened}).frames.values())  # type: ignore[operator]
        shares.append(both / alone)
    return statistics.median(shares)


if __name__ == "__main__":
    main()
