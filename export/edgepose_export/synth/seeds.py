"""Random numbers that depend on nothing but (seed, split, index), so that neither the order of pictures nor the number of jobs matters."""

from typing import Literal, get_args

import numpy as np

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = get_args(Split)


def picture_rng(seed: int, split: Split, index: int) -> np.random.Generator:
    """Return the random numbers of one picture; those of the two splits never coincide."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
