"""The motion of a camera between two frames (`Motion`)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MotionUnknown = Literal["first", "blank", "cut", "people", "implausible"]
"""Why nothing is known about the motion: the first frame, a frame without texture, another scene, people everywhere, a wild estimate."""

_LAST_ROW = (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The motion of the camera since the frame before.

    Attributes:
        matrix: float64 (2, 3), maps source pixels of the frame before to those of this frame; the identity where nothing is known.
        unknown: why nothing is known; None where the motion is measured.
    """

    matrix: NDArray[np.float64]
    unknown: MotionUnknown | None = None

    @classmethod
    def of(cls, values: Sequence[float], unknown: MotionUnknown | None = None) -> "Motion":
        """Return a motion from the six numbers of its matrix, row by row."""
        return cls(np.array(values, np.float64).reshape(2, 3), unknown)

    @property
    def values(self) -> tuple[float, ...]:
        """The six numbers of the matrix, row by row."""
        return tuple(self.matrix.ravel().tolist())

    @property
    def still(self) -> bool:
        """Whether the matrix is the identity."""
        return bool(np.array_equal(self.matrix, STILL.matrix))

    @property
    def scale(self) -> float:
        """Length in this frame over length in the frame before."""
        return math.hypot(self.matrix[0, 0], self.matrix[1, 0])

    def points(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points (..., 2) of the frame before to this frame."""
        return np.asarray(xy.astype(np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2], np.float32)

    def box(self, box: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move a box (4,) x1 y1 x2 y2 of the frame before: its center moves, its sides are scaled; it stays upright."""
        half = (box[2:] - box[:2]) * np.float32(self.scale / 2)
        middle = self.points((box[:2] + box[2:]) * np.float32(0.5))
        return np.concatenate([middle - half, middle + half])

    def vectors(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn and scale vectors (..., 2), such as speeds."""
        return np.asarray(xy.astype(np.float64) @ self.matrix[:, :2].T, np.float32)

    def then(self, following: "Motion") -> "Motion":
        """Return this motion and a following one as one."""
        return Motion((np.vstack([following.matrix, _LAST_ROW]) @ np.vstack([self.matrix, _LAST_ROW]))[:2])

    def inverse(self) -> "Motion":
        """Return the motion back."""
        return Motion(np.linalg.inv(np.vstack([self.matrix, _LAST_ROW]))[:2])


STILL = Motion(np.eye(2, 3))
"""The motion of a fixed camera."""
