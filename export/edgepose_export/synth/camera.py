"""A camera with lens distortion and a rolling shutter: from points in meters to pixels and to the clip space of the renderer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEAR, _FAR = 0.2, 400.0  # meters


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """A camera above flat ground, looking at a point.

    Attributes:
        eye: float64 (3,), meters.
        axes: float64 (3, 3), rows: right, down, forward in the world.
        focal_px: focal length.
        size: width and height of the picture in pixels.
        radial: two coefficients of Brown's radial distortion, in units of the picture's half diagonal.
        shear: rows move sideways by up to half of this share of the picture, from top to bottom (rolling shutter, steady motion).
        wobble: amplitude as a share of the picture, waves a picture, phase (rolling shutter, vibration).
    """

    eye: NDArray[np.float64]
    axes: NDArray[np.float64]
    focal_px: float
    size: int
    radial: tuple[float, float] = (0.0, 0.0)
    shear: float = 0.0
    wobble: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def distances(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the depth (N,) of points along the view direction, in meters."""
        depth: NDArray[np.float64] = (points - self.eye) @ self.axes[2]
        return depth

    def pixels(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x, y in pixels (N, 2) and the depth in meters (N,) of points (N, 3). Points behind the camera are meaningless."""
        local = (points - self.eye) @ self.axes.T  # (N, 3) right, down, forward
        depth = local[:, 2]
        plane = local[:, :2] / np.maximum(depth, _NEAR)[:, None]
        half_diagonal = self.size / np.sqrt(2)
        radius = np.minimum((plane**2).sum(1) * (self.focal_px / half_diagonal) ** 2, 2.0)
        stretched = plane * (self.focal_px * (1 + self.radial[0] * radius + self.radial[1] * radius**2))[:, None]
        x, y = (stretched + self.size / 2).T
        row = np.clip(y / self.size, -1, 2)
        amplitude, waves, phase = self.wobble
        x = x + self.size * (self.shear * (row - 0.5) + amplitude * np.sin(2 * np.pi * (waves * row + phase)))
        return np.stack((x, y), 1), depth

    def clip(self, pixels: NDArray[np.floating], depth: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return clip-space points (N, 4) for the renderer, whose first row is the top of the picture.

        Positions are rounded to 1/256 px, so that the last bits of floating point do not move a silhouette.
        """
        position = np.round(pixels * 256) / (128 * self.size) - 1
        z = (_FAR + _NEAR) / (_FAR - _NEAR) - 2 * _FAR * _NEAR / ((_FAR - _NEAR) * np.where(np.abs(depth) < 1e-6, 1e-6, depth))
        return np.concatenate((position * depth[:, None], (z * depth)[:, None], depth[:, None]), 1).astype(np.float32)

    def rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return unit directions (N, 3) in the world through pixels (N, 2); distortion is left out."""
        plane = (pixels - self.size / 2) / self.focal_px
        local = np.concatenate((plane, np.ones((len(plane), 1))), 1)
        directions: NDArray[np.float64] = local @ self.axes
        return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True), np.float64)

    def ground(self, pixels: NDArray[np.floating], height: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where rays through pixels (N, 2) meet the plane z = `height`: x, y (N, 2), and the distance (N,), infinite above it."""
        directions = self.rays(pixels)
        falls = directions[:, 2] < -1e-4
        distance = np.where(falls, (height - self.eye[2]) / np.where(falls, directions[:, 2], -1.0), np.inf)
        reach = np.where(falls, distance, 0.0)
        return (self.eye + directions * reach[:, None])[:, :2], distance

    def elevation(self, point: NDArray[np.floating]) -> float:
        """Return how steeply the line of sight to a point falls, in degrees; 90 is straight down."""
        line = np.asarray(point) - self.eye
        return float(np.degrees(np.arctan2(-line[2], np.hypot(line[0], line[1]))))


def look_at(
    target: NDArray[np.floating], distance: float, elevation: float, azimuth: float, roll: float
) -> tuple[NDArray[np.float64], ...]:
    """Return the eye and the axes of a camera at a distance (meters) that looks down at a target; angles in radians."""
    level = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    eye = np.asarray(target, np.float64) + distance * (np.cos(elevation) * level + np.array([0, 0, np.sin(elevation)]))
    forward = -(np.cos(elevation) * level + np.array([0, 0, np.sin(elevation)]))
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    down = np.cross(forward, right)
    turned_right = np.cos(roll) * right + np.sin(roll) * down
    return eye, np.stack((turned_right, np.cross(forward, turned_right), forward))
