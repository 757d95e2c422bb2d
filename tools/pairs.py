"""Comparison of two things that run in turns on one machine: many short pairs, so that other programs meet both alike."""

import math
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from statistics import fmean, stdev


def core_s(pid: int, names: Container[str] = ()) -> float:
    """Return the processor time that the threads of a process have used which run now, seconds.

    Args:
        pid: of the process.
        names: of the threads that count, as the kernel shows them; empty for all.
    """
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            if not names or (thread / "comm").read_text().strip() in names:
                total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def mean_ratio(ratios: list[float]) -> tuple[float, float, float]:
    """Return the geometric mean of ratios, and the bounds of its 95 % confidence interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = fmean(logs)
    count = len(logs)
    half = (1.96 + 2.4 / (count - 1)) * stdev(logs) / math.sqrt(count) if count > 1 else math.inf  # close to Student's quantile
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def words(ratios: list[float]) -> str:
    """Return the mean of ratios in words."""
    mean, low, high = mean_ratio(ratios)
    return f"{mean:.3f} (95 % confidence {low:.3f} to {high:.3f}, {len(ratios)} pairs)"
