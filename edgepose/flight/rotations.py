"""Rotations: Euler angles and quaternions of aviation (front, right, down), and the axes of a camera in the world (east, north, up)."""

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Quaternion = tuple[float, float, float, float]
"""w, x, y, z of a unit quaternion."""

CAMERA_TO_BODY: Matrix = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""Turns directions of a camera (right, down, forward) into those of a body (front, right, down) that looks the same way."""

NED_TO_ENU: Matrix = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""Turns north, east, down into east, north, up."""


def quaternion(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Return the quaternion of Euler angles in radians: yaw (to the right), then pitch (up), then roll (right side down)."""
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(angle / 2), math.cos(angle / 2)) for angle in (roll, pitch, yaw))
    return (
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    )


def normalized(values: Quaternion) -> Quaternion | None:
    """Return a quaternion of length 1; None where it has no direction."""
    length = math.sqrt(sum(value * value for value in values))
    if not 0.5 < length < 2:
        return None
    w, x, y, z = (value / length for value in values)
    return w, x, y, z


def multiplied(a: Quaternion, b: Quaternion) -> Quaternion:
    """Return the rotation `b` followed by `a`."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def matrix(values: Quaternion) -> Matrix:
    """Return the rotation matrix (3, 3) of a unit quaternion."""
    w, x, y, z = values
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def yaw_of(values: Quaternion) -> float:
    """Return the yaw of a quaternion in radians; near the vertical it depends on how that is reached."""
    w, x, y, z = values
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def turned(values: Quaternion, rates: tuple[float, float, float], seconds: float) -> Quaternion:
    """Return an attitude after it has turned at steady body rates (radians per second) for some seconds."""
    speed = math.sqrt(sum(rate * rate for rate in rates))
    if speed * abs(seconds) < 1e-9:
        return values
    half = speed * seconds / 2
    x, y, z = (rate / speed * math.sin(half) for rate in rates)
    return multiplied(values, (math.cos(half), x, y, z))


def between(a: Quaternion, b: Quaternion, share: float) -> Quaternion:
    """Return the attitude a share (0 to 1) of the shortest way from `a` to `b` (spherical linear interpolation)."""
    cosine = sum(one * other for one, other in zip(a, b, strict=True))
    sign = -1.0 if cosine < 0 else 1.0
    angle = math.acos(min(1.0, abs(cosine)))
    if angle < 1e-6:
        return a
    first, second = math.sin((1 - share) * angle) / math.sin(angle), sign * math.sin(share * angle) / math.sin(angle)
    w, x, y, z = (first * one + second * other for one, other in zip(a, b, strict=True))
    return w, x, y, z
