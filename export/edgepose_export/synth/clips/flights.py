"""Cameras over time: one that stands still, one that hovers (drift, shake), one that flies (translation, yaw, zoom)."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.poses import rotation

Movement = Literal["still", "hovering", "flying"]
MOVEMENTS: tuple[Movement, ...] = get_args(Movement)

_TARGET_HEIGHT_M = 0.9


@dataclass(frozen=True, slots=True)
class Waves:
    """A sum of two sine waves with amplitude 1.

    Attributes:
        rates: of the waves, Hz.
        phases: shares of a period.
    """

    rates: tuple[float, float]
    phases: tuple[float, float]

    def at(self, time_s: float) -> float:
        """Return the value at a time, -1 to 1."""
        first, second = (np.sin(2 * np.pi * (rate * time_s + phase)) for rate, phase in zip(self.rates, self.phases, strict=True))
        return float(0.65 * first + 0.35 * second)


@dataclass(frozen=True, slots=True)
class Flight:
    """The way of a camera.

    Attributes:
        elevation, azimuth: of the first frame, radians; `distance` to the middle of the scene, meters.
        focal_px: focal length without zoom.
        size: width and height of the camera's picture, of which a clip shows the middle rows.
        velocity: float64 (2,), meters a second over the ground; the camera is above the middle of its way at `middle_s`.
        drift: largest offsets (3,) of the eye in meters, and their waves.
        turns: largest angles in radians of slow and fast turns around the vertical axis, the camera's x, y and z axes.
        zoom: largest change of the focal length as a share, with its wave.
    """

    elevation: float
    azimuth: float
    distance: float
    focal_px: float
    size: int
    velocity: NDArray[np.float64]
    middle_s: float
    drift: tuple[tuple[float, Waves], ...]
    turns: tuple[tuple[float, Waves], ...]
    shakes: tuple[tuple[float, Waves], ...]
    zoom: tuple[float, Waves]

    def camera(self, time_s: float) -> Camera:
        """Return the camera at a time."""
        target = np.array([0.0, 0.0, _TARGET_HEIGHT_M])
        target[:2] += self.velocity * (time_s - self.middle_s)
        eye, axes = look_at(target, self.distance, self.elevation, self.azimuth, 0.0)
        eye = eye + [size * wave.at(time_s) for size, wave in self.drift]
        heading, *slow = (size * wave.at(time_s) for size, wave in self.turns)
        axes = axes @ rotation((0, 0, 1), heading).T
        for axis, angle, (size, wave) in zip(np.eye(3), slow, self.shakes, strict=True):
            axes = rotation(axis, angle + size * wave.at(time_s)) @ axes
        zoom, wave = self.zoom
        return Camera(eye, axes, self.focal_px * (1 + zoom * wave.at(time_s)), self.size)


def draw_flight(
    rng: np.random.Generator, movement: Movement, elevation_deg: float, pixels_per_m: float, size: int, duration_s: float
) -> Flight:
    """Draw the way of a camera that looks at the middle of the scene.

    Args:
        rng: random numbers.
        movement: how much the camera moves.
        elevation_deg: how steeply it looks down, degrees.
        pixels_per_m: size of what is in the middle of the scene.
        size: width of the picture in pixels.
        duration_s: of the clip.
    """
    distance = rng.uniform(11, 16)
    azimuth = rng.uniform(0, 2 * np.pi)
    flying, moves = movement == "flying", movement != "still"
    right, ahead = directions(azimuth)
    way = rng.choice([-1, 1]) * right * rng.uniform(0.5, 0.9) + ahead * rng.uniform(-0.3, 0.3)

    def waves(low: float, high: float) -> Waves:
        first, second = rng.uniform(low, high, 2)
        return Waves((float(first), float(second)), (float(rng.random()), float(rng.random())))

    drift = rng.uniform(0.1, 0.25, 3) * [1, 1, 0.6] * (2.0 if flying else 1.0) * moves
    # Around the vertical axis, and the camera's right (pitch), down (pan) and forward (roll).
    slow = np.radians([7.0, 2.0, 5.0, 2.0] if flying else [0.8, 0.5, 0.6, 0.4]) * rng.uniform(0.7, 1.3, 4) * moves
    fast = np.radians([0.12, 0.12, 0.08]) * rng.uniform(0.6, 1.6, 3) * moves
    return Flight(
        elevation=float(np.radians(elevation_deg)),
        azimuth=float(azimuth),
        distance=float(distance),
        focal_px=float(pixels_per_m * distance),
        size=size,
        velocity=way * flying,
        middle_s=duration_s / 2,
        drift=tuple((float(amount), waves(0.1, 0.3)) for amount in drift),
        turns=tuple((float(amount), waves(0.15, 0.4)) for amount in slow),
        shakes=tuple((float(amount), waves(2.5, 7.0)) for amount in fast),
        zoom=(float(rng.uniform(0.15, 0.3)) * flying, waves(0.08, 0.16)),
    )


def directions(azimuth: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions (2,) on the ground to the right and away from a camera that looks from an azimuth (radians)."""
    return np.array([-np.sin(azimuth), np.cos(azimuth)]), -np.array([np.cos(azimuth), np.sin(azimuth)])


def ground_to_image(camera: Camera, top: int) -> NDArray[np.float64]:
    """Return the homography (3, 3) from the ground (x, y in meters) to pixels below row `top` of a camera without distortion."""
    focal, middle = camera.focal_px, camera.size / 2
    lens = np.array([[focal, 0, middle], [0, focal, middle - top], [0, 0, 1.0]])
    ground = np.column_stack((np.eye(3)[:, :2], -camera.eye))
    return np.asarray(lens @ camera.axes @ ground, np.float64)


def ground_motion(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the homography (3, 3) that takes a pixel of the ground from one picture to the next; both from `ground_to_image`."""
    motion = after @ np.linalg.inv(before)
    return np.asarray(motion / motion[2, 2], np.float64)
