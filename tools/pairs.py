"""Comparison of two things that run in turns on one machine: many short pairs, so that other programs meet both alike."""

import math
import os
from pathlib import Path
from statistics import fmean, stdev

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def core_s(pid: int) -> float:
    """Return the processor time that a process has used, seconds, to the nanosecond where the kernel tells it."""
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((thread / "schedstat").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            continue
    if total_ns:
        return total_ns / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


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
