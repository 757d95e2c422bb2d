"""Constant-velocity Kalman filter of a box: where a person will be in the next frame.

Centre and sides are four independent axes with the same noise, so one 2 x 2 covariance serves all of them. It is kept in
body sizes (square root of the box area): the filter behaves the same at any distance. Textbook form with a white
acceleration, see Bar-Shalom et al., Estimation with Applications to Tracking and Navigation (2001), 6.2.
"""

import numpy as np
from numpy.typing import NDArray

_MEASUREMENT_VARIANCE = 0.05**2  # body sizes²: boxes of a good detector shake by a twentieth
_ACCELERATION_DENSITY = 10.0  # body sizes² / s³: a walker turns round within half a second
_FIRST_SPEED_VARIANCE = 2.0**2  # (body sizes / s)²: of somebody just seen
_LONGEST_EXTRAPOLATION_S = 1.0  # nobody keeps a course for longer
_SIZE_RANGE = (0.5, 2.0)  # of the last size seen: arms that are being raised do not grow for ever


class BoxFilter:
    """Filtered and predicted box of one person.

    Attributes:
        centre_and_sides: float64 (4,), centre x, centre y, width, height in pixels.
        shift: float64 (2,), how far the centre was predicted to have gone since the last correction, in pixels.
    """

    def __init__(self, box: NDArray[np.float32]) -> None:
        self.centre_and_sides = _to_centre(box)
        self.shift = np.zeros(2)
        self._speed = np.zeros(4)  # pixels / s
        self._last_sides = self.centre_and_sides[2:].copy()
        self._since_corrected_s = 0.0
        self._variance, self._covariance, self._speed_variance = _MEASUREMENT_VARIANCE, 0.0, _FIRST_SPEED_VARIANCE

    @property
    def box(self) -> NDArray[np.float32]:
        """The box as it is believed to be now, float32 (4,), x1 y1 x2 y2."""
        centre, half = self.centre_and_sides[:2], self.centre_and_sides[2:] / 2
        return np.concatenate((centre - half, centre + half)).astype(np.float32)

    def predict(self, elapsed_s: float) -> None:
        """Move on by the time that went by (seconds, not negative)."""
        moved_s = min(elapsed_s, max(0.0, _LONGEST_EXTRAPOLATION_S - self._since_corrected_s))
        self._since_corrected_s += elapsed_s
        step = self._speed * moved_s
        self.centre_and_sides += step
        self.shift += step[:2]
        self.centre_and_sides[2:] = np.clip(self.centre_and_sides[2:], self._last_sides * _SIZE_RANGE[0], self._last_sides * _SIZE_RANGE[1])
        self._variance += elapsed_s * (2 * self._covariance + elapsed_s * self._speed_variance) + _ACCELERATION_DENSITY * elapsed_s**3 / 3
        self._covariance += elapsed_s * self._speed_variance + _ACCELERATION_DENSITY * elapsed_s**2 / 2
        self._speed_variance += _ACCELERATION_DENSITY * elapsed_s

    def correct(self, box: NDArray[np.float32]) -> None:
        """Take in a box (4,), x1 y1 x2 y2, that was seen."""
        seen = _to_centre(box)
        innovation = seen - self.centre_and_sides
        total = self._variance + _MEASUREMENT_VARIANCE
        gain, speed_gain = self._variance / total, self._covariance / total
        self.centre_and_sides += gain * innovation
        self._speed += speed_gain * innovation
        self._speed_variance -= speed_gain * self._covariance
        self._covariance *= 1 - gain
        self._variance *= 1 - gain
        self._last_sides = np.maximum(seen[2:], 1.0)
        self._since_corrected_s = 0.0
        self.shift[:] = 0.0


def _to_centre(box: NDArray[np.float32]) -> NDArray[np.float64]:
    corners = box.astype(np.float64)
    return np.concatenate(((corners[:2] + corners[2:]) / 2, corners[2:] - corners[:2]))
