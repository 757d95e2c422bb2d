"""The daemon beside `ultralytics predict` on the same ONNX file and the same video, in turns; writes docs/performance.md.

    EDGEPOSE_ULTRALYTICS_PYTHON=/path/to/python python -m tools.compare_ultralytics VIDEO docs/performance.md [--rounds 3] [--seconds 10]

The variable names a Python in which the package ultralytics is installed. It is licensed under the AGPL: it runs in processes of its own,
for this comparison only, and nothing here imports it. It makes the network too, with random weights, which cost as much as trained ones.
Random weights find nobody, so both programs decode, and neither tracks or encodes people.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import click

from tools.machine import machine
from tools.measure_strangers import NAMES, export
from tools.write_reference import with_table

VARIABLE = "EDGEPOSE_ULTRALYTICS_PYTHON"
_LIMIT_S = 300.0

# Its default threshold, its own video reader; the file begins anew as the daemon's does with `loop`.
_PREDICT = """
import sys, ultralytics
network = ultralytics.YOLO(sys.argv[1], task="pose")
while True:
    for result in network.predict(sys.argv[2], stream=True, imgsz=int(sys.argv[3]), device="cpu", verbose=False):
        result.keypoints.data
        print(1, flush=True)
"""

_Measured = dict[str, float]


def _measure(command: list[str], results: Path, seconds: float) -> _Measured:
    """Run a program that writes one line for each frame into `results`; return frames/s, seconds to the first one, and peak MiB."""
    began_s = time.perf_counter()
    with results.open("wb") as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=results.parent)
        try:
            while not _lines(results):
                if process.poll() is not None or time.perf_counter() - began_s > _LIMIT_S:
                    stderr.seek(0)
                    raise click.ClickException(f"{command[0]} gave no result: {stderr.read().decode(errors='replace').strip()[-500:]}")
                time.sleep(0.005)
            first_s = time.perf_counter() - began_s
            time.sleep(1.0)  # both allocate at first
            before, start_s = _lines(results), time.perf_counter()
            time.sleep(seconds)
            rate = (_lines(results) - before) / (time.perf_counter() - start_s)
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
        finally:
            process.kill()
            process.wait()
    assert peak is not None
    return {"frames/s": rate, "first result, s": first_s, "peak resident memory, MiB": int(peak[1]) / 1024}


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _daemon(model: Path, video: Path) -> list[str]:
    settings = {
        **{"model.path": model, "cameras.video.source": video, "cameras.video.loop": "true", "mqtt.enabled": "false"},
        **{"refine.people": 0, "tiles.enabled": "false", "motion.enabled": "false", "files.jsonl": "-"},
    }
    return [sys.executable, "-m", "edgepose", "run", *(part for key, value in settings.items() for part in ("--set", f"{key}={value}"))]


_BARS = {"frames/s": ("≥ 1.15", 1.15, 1), "first result, s": ("≤ 0.4", 0.4, -1), "peak resident memory, MiB": ("≤ 0.2", 0.2, -1)}


@click.command(epilog=f"Example: {VARIABLE}=~/ultra/bin/python python -m tools.compare_ultralytics build/vtest.avi docs/performance.md")
@click.argument("video", type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True))
@click.argument("document", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--network", default="yolov8n-pose", help="one of `tools.measure_strangers`, or an ONNX file that the package exported")
@click.option("--size", default=640, help="long side of the input in pixels")
@click.option("--rounds", default=3)
@click.option("--seconds", default=10.0, help="duration of each measurement")
def main(video: Path, document: Path, network: str, size: int, rounds: int, seconds: float) -> None:
    """Measure both on VIDEO in turns and write the table into DOCUMENT."""
    python = os.environ.get(VARIABLE)
    if not python:
        raise click.UsageError(f"{VARIABLE} is not set; expected a Python in which the package ultralytics is installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = export(python, network, size, folder) if network in NAMES else Path(network).resolve()
        commands = {
            "ultralytics predict": [python, "-c", _PREDICT, str(model), str(video), str(size)],
            "edgepose run, pose network alone": _daemon(model, video),
        }
        measured: dict[str, list[_Measured]] = {name: [] for name in commands}
        for number in range(rounds):
            for each in sorted(commands, reverse=bool(number % 2)):
                measured[each].append(_measure(commands[each], folder / "results", seconds))
                click.echo(f"{each}: {json.dumps(measured[each][-1])}", err=True)
        text = _table(measured, f"{model.name}, {size} px, {video.name}")
    click.echo(text)
    document.write_text(with_table(document.read_text(encoding="utf-8"), "ultralytics", text), encoding="utf-8")


def _table(measured: dict[str, list[_Measured]], what: str) -> str:
    theirs, ours = measured.values()
    lines = [
        f"`python -m tools.compare_ultralytics`, {datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {what}, {len(ours)} rounds in turns:",
        "",
        f"| | {' | '.join(measured)} | times | bar |",
        "|---|---|---|---|---|",
    ]
    for measure, (bar, limit, sign) in _BARS.items():
        pair = [statistics.median(each[measure] for each in rounds) for rounds in (theirs, ours)]
        ratio = statistics.median(our[measure] / their[measure] for their, our in zip(theirs, ours, strict=True))
        outcome = "met" if sign * ratio >= sign * limit else "missed"
        lines.append(f"| {measure} | {pair[0]:.2f} | {pair[1]:.2f} | {ratio:.2f} | {bar}: {outcome} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
