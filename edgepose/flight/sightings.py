"""What a person's box and ankles say about where the person stands, and whether anybody can be that large there."""

import numpy as np

from edgepose.flight.geometry import CameraView, Sighting, apparent_size_m, depression, down_in_frame
from edgepose.person import Person

_ANKLES = (15, 16)
_ANKLE_M, _ANKLE_ERROR_M = 0.1, 0.1
_STEEP = 1.0  # radians; from here on the lower edge of a box is a shoulder or a knee as likely as a foot
_MIDDLE_M, _MIDDLE_ERROR_M = 0.8, 0.35  # height of the middle of a person who stands, sits or lies
_LOWEST_M, _LOWEST_ERROR_M = 0.0, 0.1
_HIGHEST_M, _HIGHEST_ERROR_M = 1.4, 0.5  # of a person whose feet the frame cuts off
_SPREAD_M = 0.3  # a person is no point: ankles of those who lie or sit, the near edge of a shoulder
_ERROR_PX, _ERROR_SHARE = 1.0, 0.04  # of a box or a keypoint: pixels, and a share of the person's longer side
_EDGE_PX = 2.0
_SMALLEST_M, _LARGEST_M = 0.35, 2.6  # apparent size of a crouching child, and of an adult with a raised arm
_IN_THE_SKY = 0.5  # factor for a find above the horizon: somebody on a tower


def sighting_of(person: Person, view: CameraView, size: tuple[int, int], keypoint_threshold: float) -> Sighting:
    """Return the pixel by which a person is placed: ankles, else the lowest point of the box, else its middle where it is seen steeply.

    Args:
        person: in source pixels.
        view: of the camera.
        size: width and height of the frame; a box that it cuts off below is placed by its highest point.
        keypoint_threshold: confidence below which a keypoint is not visible.
    """
    left, top, right, bottom = person.box.tolist()
    middle = ((left + right) / 2, (top + bottom) / 2)
    error_px = _ERROR_PX + _ERROR_SHARE * max(right - left, bottom - top)
    falls = float(depression(view.directions(np.array([middle])))[0])
    ankles = [person.keypoints[index, :2] for index in _ANKLES if person.keypoints[index, 2] >= keypoint_threshold]
    if ankles and falls < _STEEP:
        x, y = np.mean(ankles, 0).tolist()
        return Sighting(x, y, error_px, _ANKLE_M, _ANKLE_ERROR_M, _SPREAD_M)
    if falls >= _STEEP:
        return Sighting(*middle, error_px, _MIDDLE_M, _MIDDLE_ERROR_M, _SPREAD_M)
    down_x, down_y = down_in_frame(view, *middle)
    reach = min((right - left) / 2 / max(abs(down_x), 1e-9), (bottom - top) / 2 / max(abs(down_y), 1e-9))
    x, y = middle[0] + reach * down_x, middle[1] + reach * down_y
    width, height = size
    if _EDGE_PX < x < width - _EDGE_PX and _EDGE_PX < y < height - _EDGE_PX:
        return Sighting(x, y, error_px, _LOWEST_M, _LOWEST_ERROR_M, _SPREAD_M)
    return Sighting(middle[0] - reach * down_x, middle[1] - reach * down_y, error_px, _HIGHEST_M, _HIGHEST_ERROR_M, _SPREAD_M)


def credibility(person: Person, view: CameraView) -> float:
    """Return a factor from 0 to 1 for the score of a person, by the size that the box has on the ground."""
    left, top, right, bottom = person.box.tolist()
    size_m = apparent_size_m(view, (left, top, right, bottom))
    if size_m is None:
        return _IN_THE_SKY
    off = max(_SMALLEST_M / max(size_m, 1e-6), size_m / _LARGEST_M)
    return 1.0 if off <= 1 else 1 / off**2
