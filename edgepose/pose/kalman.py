"""Constant-velocity Kalman filter of a box, which predicts a person's box in the next frame.

The center (x, y) and the sides are four independent axes with the same noise, so they share one 2 x 2 covariance. The
covariance is in body sizes (square root of the box area), so the filter behaves the same at any distance. The motion model
is a continuous white-noise acceleration: Bar-Shalom et al., Estimation with Applications to Tracking and Navigation
(2001), 6.2.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepose.motion import Motion

# Measured on rendered crossings: with boxes trusted three times as much, twice as many people swap their numbers.
_MEASUREMENT_VARIANCE = 0.15**2  # body sizes²: the boxes of small people jitter by more than a tenth
_ACCELERATION_DENSITY = 1.0  # body sizes² / s³: a walker changes course within a second
_INITIAL_SPEED_VARIANCE = 1.0  # (body sizes / s)²
_MAXIMUM_EXTRAPOLATION_S = 1.0  # people change course sooner or later
_SIZE_RANGE = (0.5, 2.0)  # predicted over last measured side: a box that grows because arms are raised stops growing


class BoxFilterState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `BoxFilter`: center, sides and speeds in pixels and seconds, and the shared covariance."""

    estimate: tuple[float, float, float, float]
    speed: tuple[float, float, float, float]
    last_sides: tuple[float, float]
    corrected_center: tuple[float, float]
    since_corrected_s: float
    variance: float
    covariance: float
    speed_variance: float


class BoxFilter:
    """Kalman filter of one person's box.

    The filter uses plain numbers: for four axes, the overhead of NumPy calls exceeds the cost of the arithmetic.

    Args:
        box: (4,), x1 y1 x2 y2 in pixels: the first measurement.
    """

    def __init__(self, box: NDArray[np.float32]) -> None:
        self._estimate = _to_center(box)  # center x, center y, width, height in pixels
        self._speed = (0.0, 0.0, 0.0, 0.0)  # of `_estimate`, pixels / s
        self._last_sides = self._estimate[2:]
        self._corrected_center = self._estimate[:2]
        self._since_corrected_s = 0.0
        self._variance, self._covariance, self._speed_variance = _MEASUREMENT_VARIANCE, 0.0, _INITIAL_SPEED_VARIANCE

    @property
    def box(self) -> NDArray[np.float32]:
        """Current estimate of the box, float32 (4,), x1 y1 x2 y2."""
        return np.array(self.corners, np.float32)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Current estimate of the box, x1 y1 x2 y2."""
        x, y, width, height = self._estimate
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    @property
    def displacement(self) -> tuple[float, float]:
        """Predicted displacement of the center since the last correction, in pixels."""
        return self._estimate[0] - self._corrected_center[0], self._estimate[1] - self._corrected_center[1]

    def predict(self, elapsed_s: float) -> None:
        """Advance the estimate by an elapsed time (seconds, not negative)."""
        moved_s = min(elapsed_s, max(0.0, _MAXIMUM_EXTRAPOLATION_S - self._since_corrected_s))
        self._since_corrected_s += elapsed_s
        x, y, width, height = (value + speed * moved_s for value, speed in zip(self._estimate, self._speed, strict=True))
        self._estimate = (x, y, _within_range(width, self._last_sides[0]), _within_range(height, self._last_sides[1]))
        self._variance += elapsed_s * (2 * self._covariance + elapsed_s * self._speed_variance) + _ACCELERATION_DENSITY * elapsed_s**3 / 3
        self._covariance += elapsed_s * self._speed_variance + _ACCELERATION_DENSITY * elapsed_s**2 / 2
        self._speed_variance += _ACCELERATION_DENSITY * elapsed_s

    def move(self, motion: Motion) -> None:
        """Move the estimate with the ground, when the camera has moved."""
        x, y, width, height = self._estimate
        across, down, wider, taller = self._speed
        center = np.array((x, y), np.float32)
        scale = motion.scale(center)
        points = motion.points(np.array(((x, y), self._corrected_center), np.float32)).tolist()
        across, down = motion.vectors(np.array((across, down), np.float32), center).tolist()
        self._estimate = (*points[0], width * scale, height * scale)
        self._speed = (across, down, wider * scale, taller * scale)
        self._last_sides = (self._last_sides[0] * scale, self._last_sides[1] * scale)
        self._corrected_center = (points[1][0], points[1][1])

    def correct(self, box: NDArray[np.float32]) -> None:
        """Update the estimate with a measured box (4,), x1 y1 x2 y2."""
        measured = _to_center(box)
        total = self._variance + _MEASUREMENT_VARIANCE
        gain, speed_gain = self._variance / total, self._covariance / total
        innovation = [new - value for new, value in zip(measured, self._estimate, strict=True)]
        x, y, width, height = (value + gain * residual for value, residual in zip(self._estimate, innovation, strict=True))
        self._estimate = (x, y, width, height)
        x, y, width, height = (speed + speed_gain * residual for speed, residual in zip(self._speed, innovation, strict=True))
        self._speed = (x, y, width, height)
        self._speed_variance -= speed_gain * self._covariance
        self._covariance *= 1 - gain
        self._variance *= 1 - gain
        self._last_sides = (max(measured[2], 1.0), max(measured[3], 1.0))
        self._corrected_center = self._estimate[:2]
        self._since_corrected_s = 0.0

    def snapshot(self) -> BoxFilterState:
        """Return the whole state of the filter."""
        return BoxFilterState(
            self._estimate,
            self._speed,
            self._last_sides,
            self._corrected_center,
            self._since_corrected_s,
            self._variance,
            self._covariance,
            self._speed_variance,
        )

    @classmethod
    def restored(cls, state: BoxFilterState) -> "BoxFilter":
        """Return a filter that continues from a snapshot."""
        box_filter = cls.__new__(cls)
        box_filter._estimate = state.estimate
        box_filter._speed = state.speed
        box_filter._last_sides = state.last_sides
        box_filter._corrected_center = state.corrected_center
        box_filter._since_corrected_s = state.since_corrected_s
        box_filter._variance = state.variance
        box_filter._covariance = state.covariance
        box_filter._speed_variance = state.speed_variance
        return box_filter


def _within_range(side: float, last: float) -> float:
    return min(max(side, last * _SIZE_RANGE[0]), last * _SIZE_RANGE[1])


def _to_center(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return center x, center y, width and height in pixels."""
    left, top, right, bottom = box.tolist()
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
