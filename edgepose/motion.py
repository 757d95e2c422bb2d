"""The motion of a camera between two frames (`Motion`)."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

MotionUnknown = Literal["first", "blank", "cut", "people", "implausible"]
"""Why nothing is known about the motion: the first frame, a frame without texture, another scene, people everywhere, a wild estimate."""

_DEPTHS = (0.5, 2.0)
"""Depths of points that move. A camera gives points of its frame no others; one far outside, or beyond the horizon, stays where it was:
its prediction would grow without bound, frame by frame."""


class Motion(msgspec.Struct, frozen=True, eq=False):
    """The motion of the camera since the frame before, as the ground moves in the picture: a homography.

    Attributes:
        matrix: float64 (3, 3), maps source pixels of the frame before to those of this frame; the identity where nothing is known.
        unknown: why nothing is known; None where the motion is measured.
    """

    matrix: NDArray[np.float64]
    unknown: MotionUnknown | None = None

    @classmethod
    def of(cls, values: Sequence[float], unknown: MotionUnknown | None = None) -> "Motion":
        """Return a motion from the nine numbers of its matrix, row by row."""
        return cls(np.array(values, np.float64).reshape(3, 3), unknown)

    @property
    def values(self) -> tuple[float, ...]:
        """The nine numbers of the matrix, row by row."""
        return tuple(self.matrix.ravel().tolist())

    @property
    def still(self) -> bool:
        """Whether the matrix is the identity."""
        return bool(np.array_equal(self.matrix, STILL.matrix))

    def depth(self, xy: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how far away points (..., 2) are in this frame, against the frame before; 0 or less beyond the horizon."""
        return np.asarray(xy.astype(np.float64) @ self.matrix[2, :2] + self.matrix[2, 2])

    def points(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) of the frame before to this frame."""
        depth, moves = self._depths(xy)
        mapped = (xy.astype(np.float64) @ self.matrix[:2, :2].T + self.matrix[:2, 2]) / depth
        return np.asarray(np.where(moves, mapped, xy), np.float32)

    def vectors(self, xy: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn and scale vectors (..., 2), such as speeds, of points (..., 2) of the frame before."""
        wide = xy.astype(np.float64)
        depth, moves = self._depths(at)
        turned = (wide @ self.matrix[:2, :2].T - self.points(at) * (wide @ self.matrix[2, :2])[..., None]) / depth
        return np.asarray(np.where(moves, turned, xy), np.float32)

    def scale(self, at: NDArray[np.float32]) -> float:
        """Return length in this frame over length in the frame before, around a point (2,) of the frame before."""
        depth, moves = self._depths(at)
        return float(np.sqrt(abs(np.linalg.det(self.matrix)) / depth[0] ** 3)) if moves[0] else 1.0

    def box(self, box: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move a box (4,) x1 y1 x2 y2 of the frame before: its center moves, its sides are scaled; it stays upright."""
        center = (box[:2] + box[2:]) * np.float32(0.5)
        half = (box[2:] - box[:2]) * np.float32(self.scale(center) / 2)
        middle = self.points(center)
        return np.concatenate([middle - half, middle + half])

    def then(self, following: "Motion") -> "Motion":
        """Return this motion and a following one as one."""
        return _normal(following.matrix @ self.matrix)

    def inverse(self) -> "Motion":
        """Return the motion back."""
        return _normal(np.asarray(np.linalg.inv(self.matrix), np.float64))

    def _depths(self, xy: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the depths (..., 1) of points, within their limits, and whether (..., 1) they move."""
        depth = self.depth(xy)[..., None]
        return np.clip(depth, *_DEPTHS), (depth >= _DEPTHS[0]) & (depth <= _DEPTHS[1])


def _normal(matrix: NDArray[np.float64]) -> Motion:
    """Return the motion of a matrix, whose last number becomes 1."""
    return Motion(matrix / matrix[2, 2])


STILL = Motion(np.eye(3))
"""The motion of a fixed camera."""
