"""Runner of the fault matrix: every row on real processes, with a table in docs/reliability.md (`make faults`)."""

import os
import signal
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgepose import __version__
from testing.faults.matrix import ROWS
from testing.faults.row import RowResult, attempt
from testing.faults.world import street_video
from tools.machine import machine
from tools.write_reference import DOCS, with_table

_KEPT = Path("build/faults.json")


class _Result(msgspec.Struct):
    """Cells of the table for one row."""

    recovery: str
    lost: str
    result: str
    commit: str


@click.command()
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Only the rows that every test run includes.")
@click.option("--list", "listed", is_flag=True, help="List the rows and exit.")
@click.option("--patience", type=click.FloatRange(0.1, 10), default=1.0, show_default=True, help="Factor on the duration of each fault.")
@click.option("--report/--no-report", default=True, help="Whether to write docs/reliability.md.")
def main(names: tuple[str, ...], quick: bool, listed: bool, patience: float, report: bool) -> None:
    """Run the rows whose title contains one of NAMES, or all; exit code 1 where a requirement did not hold.

    The table has the last result of each row, including rows that were not run this time.
    """
    rows = [row for row in ROWS if (not names or any(name in row.title for name in names)) and (not quick or row.quick)]
    rows = [row for row in rows if names or quick or not row.spare]
    if not rows:
        raise click.UsageError(f"no row has {' or '.join(names)} in its title; expected one that --list shows")
    if listed:
        for row in rows:
            click.echo(f"{row.title:<40} {row.did}")
        return
    outcomes: list[RowResult] = []
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="edgepose-video-") as folder, Progress(*columns, console=console) as progress:
        street = street_video(Path(folder))
        task = progress.add_task("", total=len(rows))
        for row in rows:
            progress.update(task, description=row.title)
            outcomes.append(attempt(row, street, patience=patience))
            progress.advance(task)
            console.print(_line(outcomes[-1]), markup=False, highlight=False, soft_wrap=True)
            _keep(outcomes[-1])
    if report:
        path = DOCS / "reliability.md"
        path.write_text(with_table(path.read_text(encoding="utf-8"), "faults", _section(_kept())), encoding="utf-8")
    sys.exit(0 if all(outcome.held or outcome.skipped for outcome in outcomes) else 1)


def _line(outcome: RowResult) -> str:
    found = outcome.findings
    if outcome.skipped:
        return f"skipped  {outcome.row.title}: {outcome.skipped}"
    parts = [f"{'held' if outcome.held else 'BROKEN':<8} {outcome.row.title} ({outcome.took_s:.0f} s): back {_recovery(outcome) or '-'}"]
    parts += [f"told {', '.join(found.told)}"] if found.told else []
    parts += [_lost(outcome), *found.notes]
    return "; ".join(parts) + "".join(f"\n         {sentence}" for sentence in found.broken)


def _recovery(outcome: RowResult) -> str:
    times = outcome.findings.recovery_s
    if not times:
        return ""
    return f"{times[0]:.1f} s" if len(times) == 1 else f"{min(times):.1f} to {max(times):.1f} s ({len(times)} times)"


def _lost(outcome: RowResult) -> str:
    lost = outcome.findings.lost
    rest = [f"{count} {cause}" for cause, count in sorted(lost.items()) if cause not in ("stale", "late", "events") and count]
    rest = [f"{lost['late']} poses late", *rest] if lost.get("late") else rest
    events = f"{lost['events']} events, " if "events" in lost else ""
    return f"{events}{lost.get('stale', '?')} stale poses" + ("; " + ", ".join(rest) if rest else "")


def _kept() -> dict[str, _Result]:
    return msgspec.json.decode(_KEPT.read_bytes(), type=dict[str, _Result]) if _KEPT.exists() else {}


def _keep(outcome: RowResult) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = f"skipped: {outcome.skipped}" if outcome.skipped else "held" if outcome.held else f"**missed**: {_short(outcome)}"
    lost = "" if outcome.skipped else _lost(outcome)
    _KEPT.parent.mkdir(exist_ok=True)
    _KEPT.write_bytes(msgspec.json.encode(_kept() | {outcome.row.title: _Result(_recovery(outcome), lost, result, commit)}))


def _section(results: dict[str, _Result]) -> str:
    rows = [(row, results[row.title]) for row in ROWS if row.title in results and not row.spare]
    tried = [result for _, result in rows if not result.result.startswith("skipped")]
    held = sum(result.result == "held" for result in tried)
    lines = [
        f"`make faults`, {datetime.now(timezone.utc):%Y-%m-%d}, edgepose {__version__}, {machine()}, load {os.getloadavg()[1]:.1f}: "
        + (f"**all {held} rows held**." if held == len(tried) else f"**{held} of {len(tried)} rows held**."),
        "",
        "| fault | what was done | requirement | back after | lost | result | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, result in rows:
        cells = (row.title, row.did, row.must, result.recovery, result.lost, result.result, f"`{result.commit}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _short(outcome: RowResult) -> str:
    """Return the broken requirements in one cell: no line breaks, no vertical bars, no paths of the run."""
    return "; ".join(sentence.splitlines()[0].split("; ")[0].replace("|", "/")[:160] for sentence in outcome.findings.broken)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server keeps running
    main()
