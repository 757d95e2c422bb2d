"""Measurement of the costs of edgepose without and with refinement; writes the README's table.

python -m tools.write_costs build/vtest.avi README.md [--people 2] [--rounds 6]
"""

import argparse
import re
from datetime import datetime, timezone
from pathlib import Path

from edgepose.config.schema import Config, RefineConfig, TilesConfig
from edgepose.diagnostics.bench import bench
from edgepose.diagnostics.bench_result import BenchRow
from edgepose.model.file import ModelFile
from edgepose.model.shipped import named_model
from tools.machine import machine

BEGIN, END = "<!-- begin costs -->", "<!-- end costs -->"


def size(file: ModelFile) -> str:
    """Return name and size of a model file."""
    return f"`{file.path.name}` {file.path.stat().st_size / 1e6:.1f} MB"


def accuracy(file: ModelFile) -> str:
    """Return the AP recorded in a model file."""
    ap = file.info.accuracy.get("AP")
    return "not measured" if ap is None else f"{ap:.3f}"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("page", type=Path)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    pose_model, refiner = named_model("default", "pose"), named_model(RefineConfig().path, "refine")
    config = Config(refine=RefineConfig(people=options.people), tiles=TilesConfig(enabled=False))
    alone = bench(config, options.video, rounds=options.rounds, seconds=2.0, done=lambda: None)
    refining = alone.default
    people_a_frame = (
        "" if refining.refine is None else f"{refining.refine.people_per_frame:.1f} people per frame, {refining.refine.cost_ms:.1f} ms each"
    )

    def daemon(result: BenchRow) -> str:
        return f"{result.daemon_fps:.0f} frames/s, {result.ratio:.2f} of the engine alone"

    precision = {"float32": "float", "int8": "INT8"}[pose_model.info.precision]
    rows = [
        f"Measured by `make costs`, {datetime.now(timezone.utc):%Y-%m-%d}, on {machine()} ({alone.device}), "
        f"on `{Path(options.video).name}`.",
        "",
        "| | pose network alone | with refinement |",
        "|---|---|---|",
        f"| Model files | {size(pose_model)} | and {size(refiner)} |",
        f"| Input, pixels | {pose_model.info.input_size}, long side | {refiner.info.input_size} per person |",
        f"| Accuracy in {precision}, COCO OKS AP on 300 pictures | {accuracy(pose_model)} | {accuracy(refiner)} with all people refined |",
        f"| Engine alone | {alone.engine_fps:.0f} frames/s | |",
        f"| Whole daemon, from file to encoded message | {daemon(alone)} | {daemon(refining)}; {people_a_frame} |",
        f"| Peak memory of the process | {alone.peak_rss_mb:.0f} MiB | {refining.peak_rss_mb:.0f} MiB |",
        f"| From start to the first pose | {alone.first_pose_s:.1f} s | {refining.first_pose_s:.1f} s |",
    ]
    table = "\n".join(rows)
    print(table)
    text = options.page.read_text()
    options.page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
