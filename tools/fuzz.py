"""Fuzzing with ten thousand invalid inputs of each kind, with a table in docs/reliability.md (`make fuzz`)."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edgepose import __version__
from testing.fuzz import configuration, messages, models, rtsp
from testing.fuzz.tally import GOOD, Tally
from tools.machine import machine
from tools.write_reference import DOCS, with_table

OnInput = Callable[[], None]
"""Callback after each input."""

KINDS: dict[str, tuple[str, Callable[[int, OnInput], Tally]]] = {
    "configuration": (
        "YAML of known and unknown keys with any values, valid files with pieces cut out, doubled and inserted, deep nesting, aliases of"
        " aliases, text, bytes; `--set` and variables (hypothesis)",
        configuration.fuzz,
    ),
    "messages": ("commands and states with any payload, properties and QoS, to a running daemon over mosquitto", messages.fuzz),
    "rtsp": (
        "output of GStreamer's server, damaged on its way to FFmpeg: headers, session descriptions, interleaved packets",
        lambda count, on_input: rtsp.fuzz(count, 10, on_input),
    ),
    "models": (
        "shipped models, a refiner and tiny ones with bits flipped, bytes cut out, doubled and inserted, mostly outside of the weights",
        lambda count, on_input: models.fuzz(count, 2, on_input),
    ),
}

_KEPT = Path("build/fuzz.json")


class _Result(msgspec.Struct):
    """Inputs of one kind by outcome, their duration, and the commit."""

    counts: dict[str, int]
    took_s: float
    commit: str


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(KINDS)))
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Inputs of each kind.")
@click.option("--report/--no-report", default=True, help="Whether to write docs/reliability.md.")
def main(names: tuple[str, ...], count: int, report: bool) -> None:
    """Run NAMES, or all kinds; exit code 1 where an input caused a crash, a hang, or any answer other than a sentence.

    The table has the last result of each kind, including kinds that were not run this time.
    """
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    results: dict[str, _Result] = {}
    if _KEPT.exists():
        results = msgspec.json.decode(_KEPT.read_bytes(), type=dict[str, _Result])
    bad = False
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for name in names or KINDS:
            task = progress.add_task(name, total=count)
            began_s = time.monotonic()
            tally = KINDS[name][1](count, lambda task=task: progress.advance(task))  # type: ignore[misc]
            results[name] = _Result(dict(tally.counts), time.monotonic() - began_s, commit)
            console.print(f"{name}: {results[name].counts} in {results[name].took_s:.0f} s", highlight=False)
            for sentence in tally.bad:
                console.print(sentence[:2000], markup=False, highlight=False)
            bad = bad or bool(tally.bad)
            _KEPT.parent.mkdir(exist_ok=True)
            _KEPT.write_bytes(msgspec.json.encode(results))
    if report:
        path = DOCS / "reliability.md"
        path.write_text(with_table(path.read_text(encoding="utf-8"), "fuzz", _section(results)), encoding="utf-8")
    sys.exit(1 if bad else 0)


def _section(results: dict[str, _Result]) -> str:
    bad = sum(count for result in results.values() for outcome, count in result.counts.items() if outcome not in GOOD)
    lines = [
        f"`make fuzz`, {datetime.now(timezone.utc):%Y-%m-%d}, edgepose {__version__}, {machine()}: "
        + ("**no crash, no hang, no traceback**." if not bad else f"**{bad} bad answers**."),
        "",
        "| input | count | accepted | refused in a sentence | ignored | anything else | crash | hang | seconds | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (what, _) in KINDS.items():
        if name in results:
            counts, took_s, commit = results[name].counts, results[name].took_s, results[name].commit
            cells = [counts.get(outcome, 0) for outcome in (*GOOD, "wrong", "crash", "hang")]
            lines.append(f"| {name}: {what} | {sum(cells)} | " + " | ".join(map(str, cells)) + f" | {took_s:.0f} | `{commit}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server keeps running
    main()
