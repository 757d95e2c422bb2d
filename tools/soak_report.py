"""Results of the soak, their criteria, and the section and plot in docs/reliability.md."""

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
_LATE_LIMIT = 4
_SETTLED_AFTER_S = 600.0
_WINDOW_S = 60.0
_PLOT = "images/soak.png"
_NUMBERED_CAUSES = ("superseded", "engine_failed", "pose_failed")
"""Causes of frames that have a sequence number and become no message. `stale` frames may or may not have a number."""

_COLORS = {"camera": "#3f8f4f", "camera link": "#7fbf7f", "broker": "#c8641e", "broker link": "#e8a45e", "daemon": "#8844aa"}


class Sample(msgspec.Struct, frozen=True):
    """Sample of the daemon's process: seconds since the start, MiB, counts."""

    at_s: float
    rss_mb: float
    pss_mb: float
    descriptors: int
    threads: int


class Fault(msgspec.Struct, frozen=True):
    """One fault.

    Attributes:
        began_s: seconds since the start of the run.
        lasted_s: duration in seconds.
        returned_after_s: seconds from its end to the first fresh pose; None where none came.
    """

    name: str
    began_s: float
    lasted_s: float
    returned_after_s: float | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Results of a whole run.

    Attributes:
        samples: samples of the daemon, every five seconds.
        quiet: samples just before each fault, when everything has recovered.
        epochs: last sequence number of each epoch in the daemon's own file of poses.
        counted, published, heard: pose messages as counted by health, as found in the file, as received by the subscriber.
        stale, oldest_s: poses of frames that were too old when written, and the age of the oldest in seconds.
        late: poses that were fresh when written and too old when received: those that a frozen broker held.
        events_awaited, events_missing, events_repeated: events expected from the file, and of these, those that never came or came twice.
    """

    commit: str
    minutes: float
    every_s: float
    model: str
    precision: str
    backend: str
    samples: list[Sample]
    quiet: list[Sample]
    faults: list[Fault]
    epochs: list[int]
    counted: int
    published: int
    heard: int
    stale: int
    oldest_s: float
    late: int
    drops: dict[str, int]
    message_drops: dict[str, int]
    events_awaited: int
    events_missing: list[str]
    events_repeated: int
    traceback: bool
    exit_code: int

    @property
    def settled_after_s(self) -> float:
        """Time of the first memory measurement; a quarter of a short run."""
        return min(_SETTLED_AFTER_S, self.minutes * 15)

    @property
    def settled(self) -> list[Sample]:
        """Samples of the minute after settling."""
        return [sample for sample in self.samples if self.settled_after_s <= sample.at_s <= self.settled_after_s + _WINDOW_S]

    @property
    def last(self) -> list[Sample]:
        """Samples of the last minute."""
        return [sample for sample in self.samples if sample.at_s >= self.samples[-1].at_s - _WINDOW_S]

    @property
    def growth_mb(self) -> float:
        """Change of resident memory from the settled minute to the last one, by medians, in MiB."""
        return statistics.median(sample.rss_mb for sample in self.last) - statistics.median(sample.rss_mb for sample in self.settled)

    @property
    def quiet_settled(self) -> list[Sample]:
        """Samples before faults after settling."""
        return [sample for sample in self.quiet if sample.at_s >= self.settled_after_s]

    @property
    def numbered(self) -> int:
        """Number of frames with a sequence number, which begins with 0 in each epoch."""
        return sum(last + 1 for last in self.epochs)

    @property
    def unaccounted(self) -> int:
        """Number of frames with a sequence number that were neither published nor counted by a cause."""
        least = self.numbered - self.published - sum(self.drops.get(cause, 0) for cause in _NUMBERED_CAUSES)
        return max(0, least - self.drops.get("stale", 0))


def failures(result: Result) -> list[str]:
    """Return one sentence for each criterion that was missed."""
    missed: list[str] = []
    if abs(result.growth_mb) > _GROWTH_LIMIT_MB:
        missed.append(f"memory changed by {result.growth_mb:+.2f} MiB, expected {_GROWTH_LIMIT_MB:g} at most")
    for name, quiet, last in (
        ("open files", [sample.descriptors for sample in result.quiet_settled], [sample.descriptors for sample in result.last]),
        ("threads", [sample.threads for sample in result.quiet_settled], [sample.threads for sample in result.last]),
    ):
        # A thread that waits for a frozen camera ends some seconds after the camera is back: none may remain at the end.
        if statistics.median(last) > min(quiet):
            missed.append(f"{name}: {statistics.median(last):g} in the last minute, {min(quiet)} at the quietest moment before")
    for fault in result.faults:
        if fault.returned_after_s is None or fault.returned_after_s > _RETURN_LIMIT_S:
            missed.append(
                f"{fault.name} at {fault.began_s / 60:.1f} min: poses after {fault.returned_after_s} s, expected {_RETURN_LIMIT_S:g}"
            )
    if result.stale:
        missed.append(f"{result.stale} stale poses were published, from frames up to {result.oldest_s:.1f} s old")
    silent = sum(fault.name == "broker silent" for fault in result.faults)
    if result.late > _LATE_LIMIT * silent:
        missed.append(
            f"{result.late} poses came late, expected {_LATE_LIMIT} at most for each of {silent} times that the broker was silent"
        )
    if result.events_missing or not result.events_awaited:
        missed.append(f"{len(result.events_missing)} of {result.events_awaited} events never came: {', '.join(result.events_missing[:5])}")
    if result.unaccounted:
        missed.append(f"{result.unaccounted} frames are unaccounted for")
    if result.counted != result.published:
        missed.append(f"health counts {result.counted} frames, the file has {result.published}")
    if result.traceback:
        missed.append("the log contains a traceback")
    if result.exit_code:
        missed.append(f"the daemon's exit code was {result.exit_code}, expected 0")
    return missed


def write(result: Result) -> None:
    """Write the section of docs/reliability.md and its plot."""
    _plot(result, DOCS / _PLOT)
    path = DOCS / "reliability.md"
    path.write_text(with_table(path.read_text(encoding="utf-8"), "soak", _section(result)), encoding="utf-8")


def _section(result: Result) -> str:
    missed = failures(result)
    before, last = result.settled, result.last
    lines = [
        f"`make soak`, {datetime.now(timezone.utc):%Y-%m-%d}, edgepose {__version__} at `{result.commit}`: "
        + ("**all criteria met**." if not missed else f"**{len(missed)} missed**: {'; '.join(missed[:8])}."),
        "",
        "| what | |",
        "|---|---|",
        f"| machine | {machine()}, load average over 15 minutes {os.getloadavg()[2]:.1f} |",
        f"| stream | 320x240 and 384x288 at 10 frames per second, H.264 over RTSP (TCP), {result.minutes:g} minutes |",
        f"| network | `{result.model}`, {result.precision}, {result.backend} |",
        f"| faults | {len(result.faults)}, one every {result.every_s:g} s |",
        "",
        f"![Memory, files and threads of the daemon over the run]({_PLOT})",
        "",
        f"| | minute after the {result.settled_after_s / 60:.0f}th | last minute | largest of the run |",
        "|---|---|---|---|",
    ]
    lines += _sample_rows(before, last, result.samples)
    lines += [
        "",
        f"Change of resident memory: {result.growth_mb:+.2f} MiB (limit: {_GROWTH_LIMIT_MB:g}).",
        "",
        "| fault | times | poses back after: median | longest |",
        "|---|---|---|---|",
    ]
    for name in sorted({fault.name for fault in result.faults}):
        times = [fault.returned_after_s for fault in result.faults if fault.name == name]
        came = [time for time in times if time is not None]
        longest = "never" if len(came) < len(times) else f"{max(came):.2f} s"
        lines.append(f"| {name} | {len(times)} | {f'{statistics.median(came):.2f} s' if came else ''} | {longest} |")
    lines += ["", "| frames and events | |", "|---|---|"]
    lines += [f"| decoded (sequence numbers of {len(result.epochs)} epochs) | {result.numbered} |"]
    lines += [f"| dropped, `{cause}` | {count} |" for cause, count in sorted(result.drops.items())]
    lines += [
        f"| became pose messages | {result.published} |",
        f"| **unaccounted for** | **{result.unaccounted}** |",
        f"| **stale poses published** | **{result.stale}** (the oldest frame was {result.oldest_s:.1f} s old) |",
        f"| poses that a frozen broker held and delivered late | {result.late} |",
    ]
    lines += [f"| messages dropped, `{cause}` | {count} |" for cause, count in sorted(result.message_drops.items())]
    lines += [
        f"| poses received | {result.heard} |",
        f"| expected events (people who entered and left) | {result.events_awaited} |",
        f"| **events lost** | **{len(result.events_missing)}** |",
        f"| events received twice (QoS 1 allows it) | {result.events_repeated} |",
    ]
    return "\n".join(lines)


def _sample_rows(before: list[Sample], last: list[Sample], samples: list[Sample]) -> list[str]:
    """Return rows of memory, files and threads: medians of two minutes, and the largest of all samples."""
    rows = []
    for name, unit, values in (
        ("resident memory (RSS)", " MiB", [[sample.rss_mb for sample in group] for group in (before, last, samples)]),
        ("proportional share (PSS)", " MiB", [[sample.pss_mb for sample in group] for group in (before, last, samples)]),
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
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 5), dpi=100, layout="constrained", sharex=True, height_ratios=(2, 1))
    above.plot(minutes, [sample.rss_mb for sample in result.samples], color="#1f5fa8", label="resident (RSS)")
    above.plot(minutes, [sample.pss_mb for sample in result.samples], color="#666666", label="share (PSS)")
    top = max(sample.rss_mb for sample in result.samples) * 1.25
    for kind, color in _COLORS.items():
        moments = [fault.began_s / 60 for fault in result.faults if _kind(fault) == kind]
        above.vlines(moments, 0, top * 0.06, color=color, linewidth=1, label=kind)
    above.set(ylabel="MiB", xlim=(0, result.minutes), ylim=(0, top))
    above.legend(loc="lower center", ncols=4, fontsize="small", bbox_to_anchor=(0.5, 0.1))
    below.plot(minutes, [sample.descriptors for sample in result.samples], color="#1f5fa8", label="open files")
    below.plot(minutes, [sample.threads for sample in result.samples], color="#c8641e", label="threads")
    below.set(xlabel="minutes", ylim=(0, None))
    below.legend(loc="lower right", ncols=2, fontsize="small")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _kind(fault: Fault) -> str:
    return max((kind for kind in _COLORS if fault.name.startswith(kind)), key=len)
