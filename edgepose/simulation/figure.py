"""A figure of 17 joints in space, posed by angles and projected by a camera that may look down: the ground truth of the sequences.

Lengths are in body heights, angles in degrees. The figure stands at the origin, with z up and y in the direction that it faces.
Proportions after R. Contini, "Body Segment Parameters, Part II", Artificial Limbs 1972.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

TRUNK, THIGH, SHANK, UPPER_ARM, FOREARM = 0.288, 0.245, 0.246, 0.17, 0.16
ANKLE = 0.039
SHOULDER, HIP = 0.115, 0.065  # half widths
HEAD = {0: (0.0, 0.07, 0.11), 1: (0.03, 0.06, 0.13), 2: (-0.03, 0.06, 0.13), 3: (0.06, 0.0, 0.115), 4: (-0.06, 0.0, 0.115)}
FAR = 8.0  # body heights between camera and body, which determines the strength of perspective


@dataclass(frozen=True)
class Arm:
    """Directions of upper arm and forearm: 0 down, 90 sideways, 180 up; the `forward` angles turn them to the front."""

    upper: float = 8.0
    fore: float = 8.0
    upper_forward: float = 0.0
    fore_forward: float = 10.0


@dataclass(frozen=True)
class Pose:
    """Angles of a body.

    Attributes:
        lean: of the trunk to the front.
        thighs, knees: flexion, left and right.
        spread: of the legs sideways.
        arms: left and right.
        tip: rotation of the whole body about its feet; 90 is lying.
        towards: direction of tipping: 0 forwards, 90 to its right, 180 backwards.
        lift: height above the ground of the lowest joint.
    """

    lean: float = 0.0
    thighs: tuple[float, float] = (0.0, 0.0)
    knees: tuple[float, float] = (0.0, 0.0)
    spread: float = 3.0
    arms: tuple[Arm, Arm] = field(default_factory=lambda: (Arm(), Arm()))
    tip: float = 0.0
    towards: float = 0.0
    lift: float = 0.0


def joints(pose: Pose) -> NDArray[np.float64]:
    """Return the joints (17, 3) in body heights, in COCO order."""
    place = np.zeros((17, 3))
    lean = np.radians(pose.lean)
    up = np.array((0.0, np.sin(lean), np.cos(lean)))
    front = np.array((0.0, np.cos(lean), -np.sin(lean)))
    neck = up * TRUNK
    for joint, (x, y, z) in HEAD.items():
        # The left side of a body that faces y is at negative x; in HEAD it is positive.
        place[joint] = neck + np.array((-x, 0, 0)) + front * y + up * z
    for index, side in ((0, -1), (1, 1)):
        place[5 + index] = neck + np.array((side * SHOULDER, 0, 0))
        arm = pose.arms[index]
        for joint, before, length, sideways, forward in (
            (7, 5, UPPER_ARM, arm.upper, arm.upper_forward),
            (9, 7, FOREARM, arm.fore, arm.fore_forward),
        ):
            out, ahead = np.radians(sideways), np.radians(forward)
            along = np.array((side, 0, 0)) * np.sin(out) * np.cos(ahead) + front * np.sin(ahead) - up * np.cos(out) * np.cos(ahead)
            place[joint + index] = place[before + index] + along * length
        place[11 + index] = (side * HIP, 0, 0)
        apart = np.radians(pose.spread) * side
        bend = np.radians(pose.thighs[index])
        place[13 + index] = place[11 + index] + THIGH * np.array((np.sin(apart), np.sin(bend), -np.cos(bend) * np.cos(apart)))
        bend -= np.radians(pose.knees[index])
        place[15 + index] = place[13 + index] + SHANK * np.array((np.sin(apart), np.sin(bend), -np.cos(bend) * np.cos(apart)))
    place[:, 2] += ANKLE - place[15:, 2].min()
    if pose.tip:
        turn, tip = np.radians(pose.towards), np.radians(pose.tip)
        to = np.array((np.sin(turn), np.cos(turn), 0.0))
        feet = np.array((*place[15:, :2].mean(0), 0.0))
        from_feet = place - feet
        along = from_feet @ to
        height = from_feet[:, 2]
        place = feet + from_feet + np.outer(along * (np.cos(tip) - 1) + height * np.sin(tip), to)
        place[:, 2] = height * np.cos(tip) - along * np.sin(tip)
        place[:, 2] += max(0.0, ANKLE - place[:, 2].min())
    place[:, 2] += pose.lift
    return place


@dataclass(frozen=True)
class View:
    """View of a camera on the figure.

    Attributes:
        heading: direction of the body: 0 faces the camera, 90 faces right in the frame.
        pitch: downward angle of the camera: 0 level, 90 from above.
        height_px: height of a standing body seen from level, in pixels.
    """

    heading: float = 0.0
    pitch: float = 0.0
    height_px: float = 200.0


def project(place: NDArray[np.float64], view: View, feet_px: tuple[float, float]) -> NDArray[np.float64]:
    """Return the pixels (17, 2) of joints (17, 3) of a body whose origin is at `feet_px`."""
    # A body that faces the camera has its left side on the right of the frame; its y axis points to the camera.
    turn, pitch = np.radians(view.heading), np.radians(view.pitch)
    x, y, z = place.T
    across = -x * np.cos(turn) + y * np.sin(turn)
    away = -y * np.cos(turn) - x * np.sin(turn)
    up = z * np.cos(pitch) + away * np.sin(pitch)
    depth = away * np.cos(pitch) - z * np.sin(pitch)
    scale = view.height_px * FAR / (FAR + depth)
    return np.stack((feet_px[0] + across * scale, feet_px[1] - up * scale), 1)
