"""Ranges of activations from their statistics: pure arithmetic on histograms."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Method = Literal["minmax", "moving-average", "percentile", "entropy", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

BINS = 2048
_PERCENTILE = 0.9999
_ENTROPY_KEEPS = 0.999
_AVERAGE_SHARE = 0.05
_LEVELS = 128


@dataclass(frozen=True)
class TensorStatistics:
    """Statistics of one tensor over all calibration pictures.

    Attributes:
        low, high: extremes.
        average_low, average_high: moving averages of the extremes of single pictures.
        counts: int64 (BINS,), histogram between `low` and `high`.
    """

    low: float
    high: float
    average_low: float
    average_high: float
    counts: NDArray[np.int64]


def moving_average(average: float | None, value: float) -> float:
    """Return the next value of a moving average over pictures; the first picture starts it."""
    return value if average is None else average + _AVERAGE_SHARE * (value - average)


def choose_range(statistics: TensorStatistics, method: Method, *, symmetric: bool) -> tuple[float, float]:
    """Choose the lowest and highest value that INT8 represents.

    Args:
        statistics: of the tensor.
        method: `minmax` extremes; `moving-average` of the extremes of single pictures; `percentile` 99.99 % of the values on
            each side; `entropy` least Kullback-Leibler divergence (after S. Migacz, "8-bit inference with TensorRT", 2017);
            `mse` least squared error of clipping and rounding.
        symmetric: whether the zero point is fixed at 0, with 127 steps on each side.

    Returns:
        (low, high) with low <= 0 <= high and low < high, so that zero is exact, as padding requires.
    """
    low, high = min(statistics.low, 0.0), max(statistics.high, 0.0)
    if method == "moving-average":
        low, high = min(statistics.average_low, 0.0), max(statistics.average_high, 0.0)
    elif statistics.high > statistics.low and method != "minmax":
        edges = np.linspace(statistics.low, statistics.high, BINS + 1)
        centers = (edges[:-1] + edges[1:]) / 2
        if method == "percentile":
            below = np.cumsum(statistics.counts) / statistics.counts.sum()
            low = max(low, min(0.0, float(centers[int(np.searchsorted(below, 1 - _PERCENTILE))])))
            high = min(high, max(0.0, float(centers[min(int(np.searchsorted(below, _PERCENTILE)), BINS - 1)])))
        elif method == "entropy":
            limit = _entropy_limit(np.abs(centers), statistics.counts)
            low, high = max(low, -limit), min(high, limit)
        else:
            low, high = _least_squares(low, high, centers, statistics.counts, symmetric)
    if symmetric:
        high = max(high, -low)
        low = -high
    if high > low:
        return low, high
    return (-1.0, 1.0) if symmetric else (0.0, 1.0)  # all values are zero


def scale_and_zero(low: float, high: float, *, symmetric: bool) -> tuple[float, int]:
    """Return scale and zero point: of int8 with zero point 0 if symmetric, else of uint8."""
    if symmetric:
        return max(high, -low) / 127, 0
    scale = (high - low) / 255
    return scale, int(np.clip(round(-low / scale), 0, 255))


def _least_squares(
    low: float, high: float, centers: NDArray[np.float64], counts: NDArray[np.int64], symmetric: bool
) -> tuple[float, float]:
    """Return the clipped range with the least squared error; each side shrinks separately unless symmetric."""

    def error(bottom: float, top: float) -> float:
        if symmetric:
            top = max(top, -bottom)
            bottom = -top
        scale, zero = scale_and_zero(bottom, top, symmetric=symmetric)
        first, last = (-127, 127) if symmetric else (0, 255)
        back = (np.clip(np.round(centers / scale) + zero, first, last) - zero) * scale
        # Values lie anywhere in their bin, so rounding is never better than that of a uniform density.
        clipped = (centers < bottom - scale / 2) | (centers > top + scale / 2)
        return float((counts * np.where(clipped, (centers - back) ** 2, scale**2 / 12)).sum())

    best = (error(low, high), low, high)
    shares = np.linspace(0.2, 1.0, 41)
    for _ in range(1 if symmetric else 2):
        for share in shares:
            best = min(best, (error(best[1], high * share), best[1], high * share))
        for share in shares:
            best = min(best, (error(low * share, best[2]), low * share, best[2]))
    if symmetric:
        limit = max(high, -low)
        _, limit = min((error(-limit * share, limit * share), limit * share) for share in shares)
        return max(low, -limit), min(high, limit)
    return best[1], best[2]


def _entropy_limit(magnitudes: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return the largest magnitude to keep, so that 128 levels represent the distribution of magnitudes best."""
    top = float(magnitudes.max())
    # Both signs share the bins: half as many, or aliasing would leave every other bin empty.
    histogram, edges = np.histogram(magnitudes, BINS // 2, (0.0, top), weights=counts)
    histogram[0] = histogram[1]  # the spike of zeros after a ReLU does not help to decide where to clip
    # Divergence alone would clip rare values: in some maps a few spikes hold most of the mass.
    fewest = int(np.searchsorted(np.cumsum(histogram), _ENTROPY_KEEPS * histogram.sum())) + 1
    first = max(_LEVELS, -(-fewest // (_LEVELS // 16)) * (_LEVELS // 16))
    best_divergence, best_limit = np.inf, top
    for length in range(first, BINS // 2 + 1, _LEVELS // 16):
        kept = histogram[:length].astype(np.float64)
        reference = kept.copy()
        reference[-1] += histogram[length:].sum()
        # Merge into 128 levels, then spread each level over the bins of it that are not empty.
        level = np.arange(length) * _LEVELS // length
        total = np.bincount(level, kept, _LEVELS)
        filled = np.bincount(level, kept > 0, _LEVELS)
        spread = np.where(kept > 0, total[level] / np.maximum(filled[level], 1), 0.0)
        if not spread.sum():
            continue
        p, q = reference / reference.sum(), spread / spread.sum()
        inside = p > 0
        divergence = float((p[inside] * np.log(p[inside] / np.maximum(q[inside], 1e-12))).sum())
        if divergence < best_divergence:
            best_divergence, best_limit = divergence, float(edges[length])
    return best_limit
