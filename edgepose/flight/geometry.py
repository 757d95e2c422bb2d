"""Geometry of a camera above flat ground: pixels, places, how exact they are, the horizon, and sizes of people.

The world is east, north, up in meters, and the ground is the plane where up is 0. All functions are pure.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.flight.rotations import Matrix

Vector = NDArray[np.float64]

_RADIUS_SIGMAS = 2.45  # a circle of this many standard deviations holds 95 % of a normal distribution in two dimensions, or more
_LOWEST_SIGHT = math.radians(2)  # a line of sight that falls less than this may as well end at the horizon
_HORIZON_SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class Lens:
    """A lens: pinhole with the distortion of Brown and Conrady, as OpenCV's `calibrateCamera` measures it.

    Attributes:
        focal_x_px, focal_y_px: focal lengths.
        center_x_px, center_y_px: principal point; (0, 0) is the corner of the corner pixel.
        distortion: k1 k2 p1 p2 k3 and so on, in OpenCV's order; empty for none.
    """

    focal_x_px: float
    focal_y_px: float
    center_x_px: float
    center_y_px: float
    distortion: tuple[float, ...] = ()

    @classmethod
    def with_field_of_view(cls, degrees: float, width: int, height: int) -> "Lens":
        """Return a lens without distortion whose horizontal field of view fills a frame."""
        focal_px = width / 2 / math.tan(math.radians(degrees) / 2)
        return cls(focal_px, focal_px, width / 2, height / 2)

    def scaled(self, factor_x: float, factor_y: float) -> "Lens":
        """Return the lens for a frame of another size."""
        x, y = factor_x, factor_y
        return Lens(self.focal_x_px * x, self.focal_y_px * y, self.center_x_px * x, self.center_y_px * y, self.distortion)

    def rays(self, pixels: Vector) -> Vector:
        """Return directions right, down, forward (N, 3) through pixels (N, 2), with 1 forward."""
        if self.distortion and len(pixels):
            points = np.ascontiguousarray(pixels, np.float64).reshape(-1, 1, 2)
            done = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
            plane = cv2.undistortPoints(points, self._matrix(), np.array(self.distortion), None, None, None, done).reshape(-1, 2)
        else:
            plane = (pixels - (self.center_x_px, self.center_y_px)) / (self.focal_x_px, self.focal_y_px)
        return np.concatenate((plane, np.ones((len(plane), 1))), 1)

    def pixels(self, points: Vector) -> Vector:
        """Return pixels (N, 2) of points right, down, forward (N, 3); those behind the camera are not a number."""
        forward = np.where(points[:, 2:] > 1e-9, points[:, 2:], np.nan)
        plane = points[:, :2] / forward
        if self.distortion and len(points):
            flat = np.concatenate((plane, np.ones((len(plane), 1))), 1)
            projected, _ = cv2.projectPoints(flat, np.zeros(3), np.zeros(3), self._matrix(), np.array(self.distortion))
            return np.asarray(projected.reshape(-1, 2), np.float64)
        return np.asarray(plane * (self.focal_x_px, self.focal_y_px) + (self.center_x_px, self.center_y_px), np.float64)

    def _matrix(self) -> Matrix:
        return np.array([[self.focal_x_px, 0, self.center_x_px], [0, self.focal_y_px, self.center_y_px], [0, 0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class CameraView:
    """A camera above flat ground.

    Attributes:
        lens: of the frame.
        position: float64 (3,), east, north, up in meters; up is the height above the ground.
        axes: float64 (3, 3), whose columns are right, down and forward of the camera in the world.
    """

    lens: Lens
    position: Vector
    axes: Matrix

    def directions(self, pixels: Vector) -> Vector:
        """Return directions in the world (N, 3) of lines of sight through pixels (N, 2), one unit forward in the camera."""
        return np.asarray(self.lens.rays(pixels) @ self.axes.T, np.float64)

    def pixels(self, points: Vector) -> Vector:
        """Return pixels (N, 2) of points in the world (N, 3); those behind the camera are not a number."""
        return self.lens.pixels((points - self.position) @ self.axes)


@dataclass(frozen=True, slots=True)
class ViewErrors:
    """Standard deviations of what a view is made from.

    Attributes:
        tilt: of the attitude around each horizontal axis, radians.
        heading: around the vertical axis, radians.
        mount: of the camera on the body around each axis, radians.
        height_m: of the height above the ground.
        position_m: of the position, east and north.
    """

    tilt: float = 0.0
    heading: float = 0.0
    mount: float = 0.0
    height_m: float = 0.0
    position_m: float = 0.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A pixel that shows a point of known height above the ground.

    Attributes:
        x, y: pixels of the frame.
        error_px: standard deviation in each direction.
        height_m, height_error_m: of the point above the ground, and its standard deviation.
        spread_m: standard deviation of the point from where the person is, east and north.
    """

    x: float
    y: float
    error_px: float = 0.0
    height_m: float = 0.0
    height_error_m: float = 0.0
    spread_m: float = 0.0


def depression(directions: Vector) -> Vector:
    """Return by how much lines of sight (N, 3) fall, in radians; negative where they rise."""
    return np.asarray(np.arctan2(-directions[:, 2], np.hypot(directions[:, 0], directions[:, 1])), np.float64)


def place(view: CameraView, sighting: Sighting, errors: ViewErrors) -> tuple[float, float, float] | None:
    """Return meters east and north of a sighted point, and the radius that holds it with a probability of 95 percent.

    The covariance is that of the line of sight and the height, propagated to first order; the radius is stretched by as much as a line of
    sight two standard deviations higher reaches farther than that order says.

    Returns:
        None where the line of sight does not fall on the ground, or may pass over the horizon within the errors.
    """
    direction = view.directions(np.array([[sighting.x, sighting.y]]))[0]
    falls = float(depression(direction[None])[0])
    drop_m = float(view.position[2]) - sighting.height_m
    lens = view.lens
    sight_error = math.sqrt(errors.tilt**2 + errors.mount**2 + (sighting.error_px / lens.focal_y_px) ** 2)
    lowest = falls - _HORIZON_SIGMAS * sight_error
    if drop_m <= 0 or lowest < _LOWEST_SIGHT:
        return None
    steps = drop_m / -direction[2]
    point = view.position + steps * direction
    # Of the direction d: the point moves by steps * (I - d z' / d_z), seen from above.
    moves = steps * (np.eye(3) - np.outer(direction, (0, 0, 1)) / direction[2])[:2]  # (2, 3)
    turn_errors = np.array([errors.tilt, errors.tilt, errors.heading]) ** 2 + errors.mount**2
    turns = moves @ -_cross(direction)  # (2, 3): rotation around east, north, up
    pixels = moves @ (view.axes[:, :2] / (lens.focal_x_px, lens.focal_y_px))  # (2, 2)
    away = -direction[:2] / direction[2]  # of one meter of height
    covariance = (turns * turn_errors) @ turns.T + sighting.error_px**2 * pixels @ pixels.T
    covariance += np.outer(away, away) * (errors.height_m**2 + sighting.height_error_m**2)
    largest = float(np.linalg.eigvalsh(covariance)[-1]) + errors.position_m**2 + sighting.spread_m**2
    radius_m = _RADIUS_SIGMAS * math.sqrt(max(largest, 0.0)) * _stretch(falls, lowest)
    return float(point[0]), float(point[1]), radius_m


def apparent_size_m(view: CameraView, box: tuple[float, float, float, float]) -> float | None:
    """Return the longer side of a box (x1 y1 x2 y2) in meters, if it shows something on the ground; None above the horizon."""
    left, top, right, bottom = box
    distance = _ground_distance(view, (left + right) / 2, bottom)
    return None if distance is None else max(right - left, bottom - top) * distance / view.lens.focal_y_px


def down_in_frame(view: CameraView, x: float, y: float) -> tuple[float, float]:
    """Return the unit vector along which things fall at a pixel; (0, 0) where the camera looks straight down on it."""
    down = -view.axes[2]  # in directions of the camera
    ray = view.lens.rays(np.array([[x, y]]))[0]
    along = (down[:2] - ray[:2] * down[2]) * (view.lens.focal_x_px, view.lens.focal_y_px)
    length = float(np.hypot(*along))
    return (0.0, 0.0) if length < 1e-6 * view.lens.focal_y_px else (float(along[0]) / length, float(along[1]) / length)


def _ground_distance(view: CameraView, x: float, y: float) -> float | None:
    """Return the distance along the optical axis to the ground at a pixel."""
    direction = view.directions(np.array([[x, y]]))[0]
    if float(depression(direction[None])[0]) < _LOWEST_SIGHT or view.position[2] <= 0:
        return None
    return float(view.position[2] / -direction[2])


def _stretch(falls: float, lowest: float) -> float:
    """Return how much farther a line of sight at the lowest angle reaches than the first order in that angle says."""
    difference = falls - lowest
    if difference < 1e-9:
        return 1.0
    return max(1.0, (1 / math.tan(lowest) - 1 / math.tan(falls)) / (difference / math.sin(falls) ** 2))


def _cross(vector: Vector) -> Matrix:
    """Return the matrix whose product with another vector is the cross product of both."""
    x, y, z = vector
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
