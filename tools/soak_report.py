"""What `tools/soak.py` measured, held against its bars and written into docs/reliability.md."""

import os
import statistics
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edgepose import __version__
from tools.machine import machine
from tools.write_reference import DOCS, with_table

_GROWTH_LIMIT_MB = 3.0
_RETURN_LIMIT_S = 5.0
_SETTLED_AFTER_S = 300.0
_WINDOW_S = 60.0
_PLOT = "images/soak-memory.png"
# Frames that a sequence number was given to and that never became a message. `corrupt` packets gave no picture, so they have no
# number; `writer_busy` and `writer_failed` frames were published.
_NUMBERED_CAUSES = ("superseded", "stale", "frozen", "engine_failed", "pose_failed")


class Sample(msgspec.Struct, frozen=True):
    """The daemon's process at one moment: seconds since the first pose, MiB, counts."""

    at_s: float
    rss_mb: float
    pss_mb: float
    descriptors: int
    threads: int


class Outage(msgspec.Struct, frozen=True):
    """One time that the server was away.

    Attributes:
        gone_s: when it was killed, seconds since the first pose.
        away_s: from the kill until it listened again.
        returned_after_s: from then to the next pose at the subscriber; None where none came.
        causes: what the camera's status said meanwhile, in order.
        epoch: of the last status.
    """

    gone_s: float
    away_s: float
    returned_after_s: float | None
    causes: list[str]
    epoch: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run.

    Attributes:
        commit: of the checkout when the run began.
        epochs: last sequence number that the subscriber saw in each epoch.
        messages_seen: pose messages that the subscriber saw.
        published, drops, message_drops: the daemon's last health message, after the stream had ended.
        held, held_s: how often and for how long the daemon was stopped by a signal.
    """

    commit: str
    minutes: float
    model: str
    precision: str
    backend: str
    refine_people: int
    samples: list[Sample]
    outages: list[Outage]
    epochs: list[int]
    messages_seen: int
    published: int
    drops: dict[str, int]
    message_drops: dict[str, int]
    held: int
    held_s: float
    exit_code: int

    @property
    def numbered(self) -> int:
        """Frames decoded, by their sequence numbers, which begin with 0 in each epoch."""
        return sum(last + 1 for last in self.epochs)

    @property
    def dropped(self) -> int:
        """Frames that the daemon says it decoded and did not publish."""
        return sum(self.drops.get(cause, 0) for cause in _NUMBERED_CAUSES)

    @property
    def settled(self) -> list[Sample]:
        """Samples that count as before: the minute after the fifth, or the like of a shorter run."""
        from_s = min(_SETTLED_AFTER_S, self.minutes * 10)
        return [sample for sample in self.samples if from_s <= sample.at_s <= from_s + self._window_s]

    @property
    def last(self) -> list[Sample]:
        """Samples of the last minute."""
        return [sample for sample in self.samples if sample.at_s >= self.samples[-1].at_s - self._window_s]

    @property
    def growth_mb(self) -> float:
        """Resident memory of the last minute over that of the sixth, medians."""
        return statistics.median(sample.rss_mb for sample in self.last) - statistics.median(sample.rss_mb for sample in self.settled)

    @property
    def _window_s(self) -> float:
        return min(_WINDOW_S, self.minutes * 10)


def failures(result: Result) -> list[str]:
    """The bars that were missed, one sentence each."""
    missed: list[str] = []
    if result.growth_mb >= _GROWTH_LIMIT_MB:
        missed.append(f"memory grew by {result.growth_mb:.2f} MiB, expected less than {_GROWTH_LIMIT_MB}")
    for number, outage in enumerate(result.outages, 1):
        if outage.returned_after_s is None or outage.returned_after_s > _RETURN_LIMIT_S:
            missed.append(f"outage {number}: poses came back after {outage.returned_after_s} s, expected {_RETURN_LIMIT_S} at most")
        if outage.epoch != number:
            missed.append(f"outage {number}: the camera's status says epoch {outage.epoch}, expected {number}")
    if len(result.epochs) != len(result.outages) + 1:
        missed.append(f"sequence numbers began anew {len(result.epochs)} times, expected {len(result.outages) + 1}")
    if result.numbered != result.published + result.dropped:
        missed.append(f"{result.numbered} frames have a number, {result.published} were published and {result.dropped} dropped")
    if result.published != result.messages_seen + sum(result.message_drops.values()):
        missed.append(f"{result.published} were published, {result.messages_seen} arrived, drops {result.message_drops}")
    if result.exit_code:
        missed.append(f"the daemon's exit code was {result.exit_code}, expected 0")
    return missed


def write(result: Result, source: str) -> None:
    """Writes the section of docs/reliability.md and its plot."""
    _plot(result, DOCS / _PLOT)
    path = DOCS / "reliability.md"
    path.write_text(with_table(path.read_text(encoding="utf-8"), "soak", _section(result, source)), encoding="utf-8")


def _section(result: Result, source: str) -> str:
    missed = failures(result)
    before, last = result.settled, result.last
    lines = [
        f"`make soak`, {datetime.now(timezone.utc):%Y-%m-%d}, edgepose {__version__} at `{result.commit}`: "
        + ("**all bars held**." if not missed else f"**{len(missed)} missed**: {'; '.join(missed)}."),
        "",
        "| what | |",
        "|---|---|",
        f"| machine | {machine()}, load of the last quarter of an hour {os.getloadavg()[2]:.1f} |",
        f"| stream | `{source}` as H.264 over RTSP (TCP), {result.minutes:g} minutes |",
        f"| network | `{result.model}`, {result.precision}, {result.backend} |",
        f"| looked at again | {result.refine_people or 'nobody'}{' people a frame' if result.refine_people else ''} |",
        f"| daemon held | {result.held} times for {result.held_s:g} s (`SIGSTOP`) |",
        "",
        f"![Memory of the daemon over the run]({_PLOT})",
        "",
        "| | minute after settling | last minute | largest of the run |",
        "|---|---|---|---|",
    ]
    lines += sample_rows(before, last, result.samples)
    lines += [
        "",
        f"Growth of resident memory: {result.growth_mb:+.2f} MiB (bar: below {_GROWTH_LIMIT_MB:g}).",
        "",
        "| outage | server away | first pose after its return | status said meanwhile |",
        "|---|---|---|---|",
    ]
    for outage in result.outages:
        after = "never" if outage.returned_after_s is None else f"{outage.returned_after_s:.2f} s"
        causes = ", ".join(f"`{cause}`" for cause in outage.causes)
        lines.append(f"| at {outage.gone_s / 60:.1f} min | {outage.away_s:.1f} s | {after} | {causes} |")
    lines += ["", "| frames | |", "|---|---|", f"| decoded (sequence numbers of {len(result.epochs)} epochs) | {result.numbered} |"]
    lines += [f"| dropped, `{cause}` | {result.drops.get(cause, 0)} |" for cause in _NUMBERED_CAUSES]
    lines += [
        f"| published, as the daemon counts | {result.published} |",
        f"| messages lost on the way to the broker | {sum(result.message_drops.values())} |",
        f"| arrived at the subscriber | {result.messages_seen} |",
        f"| **unaccounted** | **{result.numbered - result.dropped - sum(result.message_drops.values()) - result.messages_seen}** |",
        f"| damaged packets that gave no frame, `corrupt` | {result.drops.get('corrupt', 0)} |",
    ]
    return "\n".join(lines)


def sample_rows(before: list[Sample], last: list[Sample], samples: list[Sample]) -> list[str]:
    """Rows of memory, files and threads: the medians of two moments, and the largest of all samples."""
    rows = []
    for name, unit, values in (
        ("resident memory (RSS)", " MiB", [[sample.rss_mb for sample in group] for group in (before, last, samples)]),
        ("its share (PSS)", " MiB", [[sample.pss_mb for sample in group] for group in (before, last, samples)]),
        ("open files", "", [[float(sample.descriptors) for sample in group] for group in (before, last, samples)]),
        ("threads", "", [[float(sample.threads) for sample in group] for group in (before, last, samples)]),
    ):
        digits = 1 if unit else 0
        cells = [statistics.median(values[0]), statistics.median(values[1]), max(values[2])]
        rows.append(f"| {name} | " + " | ".join(f"{value:.{digits}f}{unit}" for value in cells) + " |")
    return rows


def _plot(result: Result, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [sample.at_s / 60 for sample in result.samples]
    figure, axes = pyplot.subplots(figsize=(9, 3.6), dpi=100, layout="constrained")
    axes.plot(minutes, [sample.rss_mb for sample in result.samples], color="#1f5fa8", label="resident (RSS)")
    axes.plot(minutes, [sample.pss_mb for sample in result.samples], color="#c8641e", label="share (PSS)")
    for index, outage in enumerate(result.outages):
        axes.axvline(outage.gone_s / 60, color="#999999", linestyle=":", label="server killed" if index == 0 else None)
    axes.set(xlabel="minutes", ylabel="MiB", xlim=(0, result.minutes), ylim=(0, max(sample.rss_mb for sample in result.samples) * 1.25))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", ncols=3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)
