"""Arrays that are used again, so that a stream allocates no memory for its images once it runs."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT = 8
_REFERENCES_IN_POOL = 3  # the list, the loop variable and the argument of getrefcount


class Scratch:
    """Arrays for intermediate results, one for each shape and name; one thread owns them, and each call overwrites the last result."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, tuple[int, ...]], NDArray[np.uint8]] = {}

    def bytes(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the array of a name and shape, uint8, with any content."""
        array = self._arrays.get((name, shape))
        if array is None:
            if len(self._arrays) >= _KEPT:  # the size of the frames changes
                self._arrays.clear()
            array = self._arrays[name, shape] = np.empty(shape, np.uint8)
        return array


class Rows:
    """Arrays for intermediate results with a row for each person, one for each name, with as many rows as were ever needed.

    One thread owns them, and each call overwrites the last result of that name.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def take(self, name: str, count: int, *shape: int, dtype: Any = np.float32) -> NDArray[Any]:
        """Return `count` rows of a shape, with any content; a name always has the same shape and type."""
        array = self._arrays.get(name)
        if array is None or len(array) < count:
            array = self._arrays[name] = np.empty((count, *shape), dtype)
        return array if len(array) == count else array[:count]

    def filled(self, name: str, rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return a copy of rows, at least one, all of one shape and type."""
        array = self.take(name, len(rows), *rows[0].shape, dtype=rows[0].dtype)
        for index, row in enumerate(rows):
            array[index] = row
        return array

    def medians(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the medians (K, 2) of an odd number N of vectors (K, N, 2), axis by axis; np.median would take 50 µs."""
        count, number, axes = vectors.shape
        across = self.take("medians", count, axes, number)
        across[:] = vectors.transpose(0, 2, 1)
        across.sort(axis=-1)
        return across[..., number // 2]


class ArrayPool:
    """Arrays of one shape that are passed to other threads, and taken again once nothing refers to them or to a part of them.

    One thread takes; any thread may let go of an array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self._shape, self._dtype = shape, dtype
        self._arrays: list[NDArray[Any]] = []

    def take(self) -> NDArray[Any]:
        """Return an array that nobody uses, with any content."""
        for array in self._arrays:
            if sys.getrefcount(array) == _REFERENCES_IN_POOL:
                return array
        fresh = np.empty(self._shape, self._dtype)
        if len(self._arrays) < _KEPT:
            self._arrays.append(fresh)
        return fresh
