"""Comparison of two benchmarks: what changed, and whether that is more than noise.

The machine is not equally busy in both, so the measures are ratios of core time within one round, whose parts were measured directly
one after the other. The confidence interval of a change comes from the bootstrap: rounds of both are drawn again with replacement
(B. Efron 1979).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.diagnostics.bench_result import BenchResult, BenchRound
from edgepose.errors import ConfigError

_DRAWS = 4000
_CONFIDENCE = 0.99
_LEAST_CHANGE = 0.01  # below it a change is none, however sure

MEASURES: dict[str, Callable[[BenchRound], float]] = {
    "core time of the daemon / the engine": lambda one: one.daemon_core_ms / one.engine_core_ms,
    "core time of the pipeline / the engine": lambda one: one.pipeline_core_ms / one.engine_core_ms,
    "core time outside / in the engine": lambda one: one.outside_ms / one.engine_core_ms,
}
"""What is compared, by name."""


class Change(msgspec.Struct, frozen=True):
    """The change of one measure.

    Attributes:
        row: `pose network alone` or `default`.
        measure: one of `MEASURES`.
        before, after: medians over the rounds.
        change: of the means, as a share: 0.05 is 5 % more.
        low, high: its confidence interval.
        significant: whether the interval leaves out 0, and the change is worth mentioning.
    """

    row: str
    measure: str
    before: float
    after: float
    change: float
    low: float
    high: float
    significant: bool


def read_result(path: Path) -> BenchResult:
    """Return a result that `edgepose bench --json` wrote.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=BenchResult)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} is no result of a benchmark ({error}); expected the output of edgepose bench --json") from error


def compare(before: BenchResult, after: BenchResult) -> list[Change]:
    """Return the changes of all measures of both rows."""
    rows = (("pose network alone", before.rounds, after.rounds), ("default", before.default.rounds, after.default.rounds))
    return [
        change_of(row, measure, [value(one) for one in old], [value(one) for one in new])
        for row, old, new in rows
        for measure, value in MEASURES.items()
    ]


def change_of(row: str, measure: str, before: Sequence[float], after: Sequence[float]) -> Change:
    """Return the change of one measure between the rounds of two benchmarks; of fewer than three rounds nothing is significant."""
    generator = np.random.default_rng(0)
    old, new = np.log(np.array(before)), np.log(np.array(after))
    drawn = _means(generator, new) - _means(generator, old)
    # With few rounds, the bootstrap's intervals are too narrow by this factor.
    wider = np.sqrt(max(len(old), 2) / (max(len(old), 2) - 1))
    middle = float(new.mean() - old.mean())
    low, high = np.quantile(drawn, ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2)) - middle
    low, high, change = (float(np.expm1(value)) for value in (middle + wider * low, middle + wider * high, middle))
    enough = min(len(before), len(after)) >= 3
    significant = enough and (low > 0 or high < 0) and abs(change) >= _LEAST_CHANGE
    return Change(row, measure, float(np.median(before)), float(np.median(after)), change, low, high, significant)


def _means(generator: np.random.Generator, values: NDArray[np.float64]) -> NDArray[np.float64]:
    drawn = values[generator.integers(0, len(values), (_DRAWS, len(values)))]
    means: NDArray[np.float64] = drawn.mean(axis=1)
    return means
