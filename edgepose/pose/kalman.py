"""Constant-velocity Kalman filter of a box: where a person will be in the next frame.

Centre and sides are four independent axes with the same noise, so one 2 x 2 covariance serves all of them. It is kept in
body sizes (square root of the box area): the filter behaves the same at any distance. Textbook form with a white
acceleration, see Bar-Shalom et al., Estimation with Applications to Tracking and Navigation (2001), 6.2.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

_MEASUREMENT_VARIANCE = 0.05**2  # body sizes²: boxes of a good detector shake by a twentieth
_ACCELERATION_DENSITY = 10.0  # body sizes² / s³: a walker turns round within half a second
_FIRST_SPEED_VARIANCE = 2.0**2  # (body sizes / s)²: of somebody just seen
_LONGEST_EXTRAPOLATION_S = 1.0  # nobody keeps a course for longer
_SIZE_RANGE = (0.5, 2.0)  # of the last size seen: arms that are being raised do not grow for ever


class BoxFilterState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a `BoxFilter`: center, sides and speeds in pixels and seconds, and the shared covariance."""

    place: tuple[float, float, float, float]
    speed: tuple[float, float, float, float]
    last_sides: tuple[float, float]
    corrected_at: tuple[float, float]
    since_corrected_s: float
    variance: float
    covariance: float
    speed_variance: float


class BoxFilter:
    """Filtered and predicted box of one person.

    Plain numbers, not arrays: for four of them NumPy takes longer to be called than to compute.
    """

    def __init__(self, box: NDArray[np.float32]) -> None:
        self._place = _to_centre(box)
        self._speed = (0.0, 0.0, 0.0, 0.0)  # pixels / s
        self._last_sides = self._place[2:]
        self._corrected_at = self._place[:2]
        self._since_corrected_s = 0.0
        self._variance, self._covariance, self._speed_variance = _MEASUREMENT_VARIANCE, 0.0, _FIRST_SPEED_VARIANCE

    @property
    def box(self) -> NDArray[np.float32]:
        """The box as it is believed to be now, float32 (4,), x1 y1 x2 y2."""
        x, y, width, height = self._place
        return np.array((x - width / 2, y - height / 2, x + width / 2, y + height / 2), np.float32)

    @property
    def shift(self) -> NDArray[np.float32]:
        """How far the centre was predicted to have gone since the last correction, float32 (2,), pixels."""
        return np.array((self._place[0] - self._corrected_at[0], self._place[1] - self._corrected_at[1]), np.float32)

    def predict(self, elapsed_s: float) -> None:
        """Move on by the time that went by (seconds, not negative)."""
        moved_s = min(elapsed_s, max(0.0, _LONGEST_EXTRAPOLATION_S - self._since_corrected_s))
        self._since_corrected_s += elapsed_s
        x, y, width, height = (place + speed * moved_s for place, speed in zip(self._place, self._speed, strict=True))
        self._place = (x, y, _within_range(width, self._last_sides[0]), _within_range(height, self._last_sides[1]))
        self._variance += elapsed_s * (2 * self._covariance + elapsed_s * self._speed_variance) + _ACCELERATION_DENSITY * elapsed_s**3 / 3
        self._covariance += elapsed_s * self._speed_variance + _ACCELERATION_DENSITY * elapsed_s**2 / 2
        self._speed_variance += _ACCELERATION_DENSITY * elapsed_s

    def correct(self, box: NDArray[np.float32]) -> None:
        """Take in a box (4,), x1 y1 x2 y2, that was seen."""
        seen = _to_centre(box)
        total = self._variance + _MEASUREMENT_VARIANCE
        gain, speed_gain = self._variance / total, self._covariance / total
        innovation = [now - place for now, place in zip(seen, self._place, strict=True)]
        x, y, width, height = (place + gain * new for place, new in zip(self._place, innovation, strict=True))
        self._place = (x, y, width, height)
        x, y, width, height = (speed + speed_gain * new for speed, new in zip(self._speed, innovation, strict=True))
        self._speed = (x, y, width, height)
        self._speed_variance -= speed_gain * self._covariance
        self._covariance *= 1 - gain
        self._variance *= 1 - gain
        self._last_sides = (max(seen[2], 1.0), max(seen[3], 1.0))
        self._corrected_at = self._place[:2]
        self._since_corrected_s = 0.0

    def snapshot(self) -> BoxFilterState:
        """Return the whole state of the filter."""
        return BoxFilterState(
            self._place,
            self._speed,
            self._last_sides,
            self._corrected_at,
            self._since_corrected_s,
            self._variance,
            self._covariance,
            self._speed_variance,
        )

    @classmethod
    def restored(cls, state: BoxFilterState) -> "BoxFilter":
        """Return a filter that continues from a snapshot."""
        box_filter = cls.__new__(cls)
        box_filter._place = state.place
        box_filter._speed = state.speed
        box_filter._last_sides = state.last_sides
        box_filter._corrected_at = state.corrected_at
        box_filter._since_corrected_s = state.since_corrected_s
        box_filter._variance = state.variance
        box_filter._covariance = state.covariance
        box_filter._speed_variance = state.speed_variance
        return box_filter


def _within_range(side: float, last: float) -> float:
    return min(max(side, last * _SIZE_RANGE[0]), last * _SIZE_RANGE[1])


def _to_centre(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Centre x, centre y, width, height in pixels."""
    left, top, right, bottom = box.tolist()
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
