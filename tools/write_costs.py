"""Measures what edgepose costs, without and with second looks, and writes the README's table.

python -m tools.write_costs build/vtest.avi README.md [--people 2] [--rounds 6]
"""

import argparse
import re
from datetime import datetime, timezone
from pathlib import Path

from edgepose.config.schema import Config, RefineConfig
from edgepose.diagnostics.bench import BenchResult, bench
from edgepose.model.file import ModelFile, named_model
from tools.machine import machine

BEGIN, END = "<!-- begin costs -->", "<!-- end costs -->"


def size(file: ModelFile) -> str:
    """Name and size of a model file."""
    return f"`{file.path.name}` {file.path.stat().st_size / 1e6:.1f} MB"


def accuracy(file: ModelFile) -> str:
    """AP that the file says of itself."""
    ap = file.info.accuracy.get("AP")
    return "not measured" if ap is None else f"{ap:.3f}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("page", type=Path)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    first, second = named_model("default", "pose"), named_model(RefineConfig().path, "refine")
    alone, looking = (
        bench(Config(refine=RefineConfig(people=people)), options.video, rounds=options.rounds, seconds=2.0, done=lambda: None)
        for people in (0, options.people)
    )
    people_a_frame = (
        "" if looking.refine is None else f"{looking.refine.people_per_frame:.1f} people a frame, {looking.refine.cost_ms:.1f} ms each"
    )

    def daemon(result: BenchResult) -> str:
        return f"{result.daemon_fps:.0f} frames/s, {result.ratio:.2f} of the engine alone"

    rows = [
        f"Measured by `make costs`, {datetime.now(timezone.utc):%Y-%m-%d}, on {machine()} ({alone.device}), "
        f"on `{Path(options.video).name}`.",
        "",
        "| | first look alone | and a second look |",
        "|---|---|---|",
        f"| Model files | {size(first)} | and {size(second)} |",
        f"| Input, pixels | {first.info.input_size}, long side | {second.info.input_size} a person |",
        f"| Accuracy in INT8, COCO OKS AP on 300 pictures | {accuracy(first)} | {accuracy(second)} with everybody looked at again |",
        f"| Engine alone | {alone.engine_fps:.0f} frames/s | |",
        f"| Whole daemon, from file to encoded message | {daemon(alone)} | {daemon(looking)}; {people_a_frame} |",
        f"| Memory of the process, at most | {alone.peak_rss_mb:.0f} MiB | {looking.peak_rss_mb:.0f} MiB |",
        f"| From start to the first pose | {alone.first_pose_s:.1f} s | {looking.first_pose_s:.1f} s |",
    ]
    table = "\n".join(rows)
    print(table)
    text = options.page.read_text()
    options.page.write_text(re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
