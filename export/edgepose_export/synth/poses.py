"""Poses drawn by rules: rotations of the bones of a body, from a kind of activity and random numbers.

Directions are those of the body at rest: x to its left, y to its back, z up. A rotation turns a bone and all that hangs on it, around
the axes of the rest pose.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rotation = NDArray[np.float64]

X, Y, Z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
SIDES = (("L", 1.0), ("R", -1.0))  # the sign points outward along x

ON_LAND = {
    "stand": 0.15,
    "walk": 0.21,
    "run": 0.07,
    "sit_chair": 0.08,
    "sit_ground": 0.08,
    "lie": 0.06,
    "fallen": 0.06,
    "wave": 0.04,
    "arms_up": 0.05,
    "crouch": 0.05,
    "kneel": 0.03,
    "bend": 0.03,
    "carry": 0.05,
    "phone": 0.04,
    "bicycle": 0.03,
    "scooter": 0.02,
}
IN_WATER = {"swim": 0.6, "float": 0.2, "wade": 0.2}

_ARM_REST = {"L": np.array([0.67, 0.0, -0.74]), "R": np.array([-0.67, 0.0, -0.74])}


@dataclass(slots=True)
class Pose:
    """Rotations of the bones that differ from the rest pose.

    Attributes:
        kind: the activity.
        bones: rotation matrix (3, 3) of each bone by its name, without those at rest.
        tilt: rotation of the whole body, as for people who lie.
        depth: how far the body is below the ground, in meters (in water); negative for a body above it (on a vehicle).
    """

    kind: str
    bones: dict[str, Rotation] = field(default_factory=dict)
    tilt: Rotation = field(default_factory=lambda: np.eye(3))
    depth: float = 0.0

    def turn(self, bone: str, *turns: tuple[ArrayLike, float]) -> None:
        """Set the rotation of a bone: turns around axes (angle in radians), the first one first."""
        matrix = np.eye(3)
        for axis, angle in turns:
            matrix = rotation(axis, angle) @ matrix
        self.bones[bone] = matrix

    def arm(self, side: str, raised: float, forward: float, elbow: float) -> None:
        """Point an upper arm and bend its elbow.

        Args:
            side: L or R.
            raised: angle from hanging down, radians; pi is straight up.
            forward: 0 is sideways, pi / 2 straight ahead, negative behind the back.
            elbow: bend, radians; 0 is a straight arm.
        """
        outward = 1.0 if side == "L" else -1.0
        target = np.array([outward * np.sin(raised) * np.cos(forward), -np.sin(raised) * np.sin(forward), -np.cos(raised)])
        rest = _ARM_REST[side]
        axis = np.cross(rest, target)
        angle = np.arctan2(np.linalg.norm(axis), rest @ target)
        self.turn(f"upperarm01.{side}", (axis if np.linalg.norm(axis) > 1e-6 else X, float(angle)))
        self.turn(f"lowerarm01.{side}", ((-0.74, 0.0, -0.67 * outward), elbow))
        lift = max(0.0, raised - 1.4) * 0.25
        self.turn(f"clavicle.{side}", (Y, -outward * lift))

    def leg(self, side: str, hip: float, spread: float, turned: float, knee: float, twist: float = 0.0) -> None:
        """Bend a leg; the foot stays level as far as an ankle allows.

        Args:
            side: L or R.
            hip: how far the knee is raised to the front, radians.
            spread: outward from straight down, radians.
            turned: how far the knee points outward once raised, radians.
            knee: bend, radians.
            twist: turn around the thigh that brings the shin inward once the knee is bent, radians.
        """
        outward = 1.0 if side == "L" else -1.0
        self.turn(f"upperleg01.{side}", (Z, outward * twist), (X, -hip), (Y, -outward * spread), (Z, outward * turned))
        self.turn(f"lowerleg01.{side}", (X, knee))
        self.turn(f"foot.{side}", (X, float(np.clip(hip - knee, -0.7, 0.5))))


def rotation(axis: ArrayLike, angle: float) -> Rotation:
    """Return the rotation matrix (3, 3) around an axis by an angle in radians (Rodrigues)."""
    unit = np.asarray(axis, np.float64)
    x, y, z = unit / np.linalg.norm(unit)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, np.float64)


def draw_pose(rng: np.random.Generator, kinds: dict[str, float]) -> Pose:
    """Draw a pose; `kinds` holds the share of each activity."""
    names = list(kinds)
    shares = np.array([kinds[name] for name in names])
    pose = Pose(str(rng.choice(names, p=shares / shares.sum())))
    _relax(pose, rng)
    _ACTIVITIES[pose.kind](pose, rng)
    return pose


def _relax(pose: Pose, rng: np.random.Generator) -> None:
    """Let the arms hang, the legs stand and the head look somewhere."""
    for side, _ in SIDES:
        pose.arm(side, abs(rng.normal(0.12, 0.12)), rng.uniform(-0.3, 1.2), abs(rng.normal(0.15, 0.25)))
        pose.leg(side, rng.normal(0, 0.05), rng.uniform(-0.06, 0.06), rng.normal(0.05, 0.1), abs(rng.normal(0, 0.06)))
    for bone, size in (("spine04", 0.06), ("spine02", 0.06), ("neck02", 0.12), ("head", 0.15)):
        pose.turn(bone, (X, rng.normal(0.03, size)), (Y, rng.normal(0, size / 2)), (Z, rng.normal(0, size)))
    if rng.random() < 0.3:  # looks aside, or down at something
        pose.turn("neck02", (X, rng.uniform(-0.2, 0.4)), (Z, rng.uniform(-0.6, 0.6)))
        pose.turn("head", (X, rng.uniform(-0.2, 0.4)), (Z, rng.uniform(-0.5, 0.5)))


def _stand(pose: Pose, rng: np.random.Generator) -> None:
    if rng.random() < 0.35:  # hands on hips, arms crossed, a hand in front
        for side, _ in SIDES:
            pose.arm(side, rng.uniform(0.4, 0.8), rng.uniform(-0.3, 0.8), rng.uniform(1.2, 2.0))
    if rng.random() < 0.3:
        pose.leg("L", 0.05, rng.uniform(0.05, 0.3), 0.1, 0.05)
        pose.leg("R", 0.05, rng.uniform(0.05, 0.3), 0.1, 0.05)


def _stride(pose: Pose, rng: np.random.Generator, reach: float, lift: float, elbow: float, lean: float) -> None:
    phase = rng.uniform(0, 2 * np.pi)
    for side, outward in SIDES:
        swing = outward * np.cos(phase)  # 1: this leg in front
        rising = max(0.0, -outward * np.sin(phase))
        pose.leg(side, reach * swing + 0.3 * lift * rising, -0.06, 0.03, 0.08 + lift * rising + 0.15 * max(0.0, -swing))
        arm = -swing * reach * rng.uniform(0.7, 1.2)
        pose.arm(side, abs(arm) + 0.08, np.pi / 2 if arm > 0 else -np.pi / 2, elbow * (1 + 0.3 * swing))
    pose.turn("spine04", (X, lean), (Z, 0.15 * reach * np.cos(phase)))
    pose.turn("spine02", (X, lean), (Z, -0.25 * reach * np.cos(phase)))


def _walk(pose: Pose, rng: np.random.Generator) -> None:
    _stride(pose, rng, rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.9), rng.uniform(0.05, 0.4), rng.uniform(0.0, 0.06))
    if rng.random() < 0.15:
        pose.arm("R", rng.uniform(0.3, 0.6), 1.4, rng.uniform(1.2, 1.9))


def _run(pose: Pose, rng: np.random.Generator) -> None:
    _stride(pose, rng, rng.uniform(0.5, 0.9), rng.uniform(1.0, 1.8), rng.uniform(1.2, 1.8), rng.uniform(0.06, 0.15))


def _sit_chair(pose: Pose, rng: np.random.Generator) -> None:
    thigh, lean = rng.uniform(1.3, 1.6), rng.uniform(-0.15, 0.25)
    for side, _ in SIDES:
        pose.leg(side, thigh + rng.normal(0, 0.06), 0.0, rng.uniform(-0.05, 0.35), thigh + rng.normal(0, 0.25))
        pose.arm(side, rng.uniform(0.1, 0.7), rng.uniform(0.6, 1.6), rng.uniform(0.3, 1.7))
    pose.turn("spine04", (X, lean), (Z, rng.normal(0, 0.1)))
    pose.turn("spine02", (X, lean))


def _sit_ground(pose: Pose, rng: np.random.Generator) -> None:
    style = rng.random()
    for side, _ in SIDES:
        if style < 0.4:  # cross-legged
            pose.leg(side, rng.uniform(1.5, 1.7), 0.0, rng.uniform(0.7, 1.0), rng.uniform(2.0, 2.3), rng.uniform(1.1, 1.4))
        elif style < 0.75:  # legs ahead
            pose.leg(side, rng.uniform(1.4, 1.6), 0.0, rng.uniform(-0.05, 0.4), abs(rng.normal(0, 0.25)))
        else:  # knees up
            pose.leg(side, rng.uniform(2.0, 2.3), 0.0, rng.uniform(-0.05, 0.3), rng.uniform(1.6, 2.2))
        back = rng.random() < 0.35  # leans on the hands
        pose.arm(
            side, rng.uniform(0.4, 0.7), rng.uniform(-1.3, -0.7) if back else rng.uniform(0.8, 1.5), rng.uniform(0.0, 0.3 if back else 1.4)
        )
    lean = rng.uniform(-0.15, 0.3)
    pose.turn("spine04", (X, lean))
    pose.turn("spine02", (X, lean))


def _lie(pose: Pose, rng: np.random.Generator) -> None:
    for side, _ in SIDES:
        pose.arm(side, rng.choice([rng.uniform(0.1, 0.6), rng.uniform(1.2, 2.9)]), rng.normal(0, 0.2), abs(rng.normal(0, 0.7)))
        pose.leg(side, rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[0.7, 0.3]), rng.uniform(-0.05, 0.2), 0.1, abs(rng.normal(0, 0.3)))
        pose.turn(f"foot.{side}", (X, rng.uniform(0.2, 0.6)))
    _lay_down(pose, rng, float(rng.choice([-1.0, 1.0], p=[0.65, 0.35])), 0.1)


def _fallen(pose: Pose, rng: np.random.Generator) -> None:
    for side, _ in SIDES:
        pose.arm(side, rng.uniform(0.2, 2.8), rng.uniform(-0.4, 1.2), rng.uniform(0, 1.8))
        pose.leg(side, rng.uniform(-0.2, 1.5), rng.uniform(-0.1, 0.4), rng.uniform(0, 0.4), rng.uniform(0, 1.9))
    pose.turn("spine04", (X, rng.uniform(-0.1, 0.35)), (Y, rng.normal(0, 0.15)), (Z, rng.normal(0, 0.2)))
    pose.turn("spine02", (X, rng.uniform(-0.1, 0.35)), (Z, rng.normal(0, 0.2)))
    _lay_down(pose, rng, float(rng.choice([-1.0, 1.0])), 0.9)


def _lay_down(pose: Pose, rng: np.random.Generator, face: float, rolled: float) -> None:
    """Turn the body so that it lies: `face` 1 face down, -1 on the back; `rolled` is the deviation of the roll around its length."""
    pose.tilt = rotation(X, face * np.pi / 2 + rng.normal(0, 0.04)) @ rotation(Z, rng.normal(0, rolled))


def _wave(pose: Pose, rng: np.random.Generator) -> None:
    _stand(pose, rng)
    side = str(rng.choice(["L", "R"]))
    pose.arm(side, rng.uniform(1.6, 2.8), rng.uniform(-0.1, 0.8), rng.uniform(0.1, 1.3))


def _arms_up(pose: Pose, rng: np.random.Generator) -> None:
    raised = rng.uniform(1.4, 2.9)
    for side, _ in SIDES:
        pose.arm(side, raised + rng.normal(0, 0.15), rng.uniform(-0.2, 1.0), abs(rng.normal(0.1, 0.3)))


def _crouch(pose: Pose, rng: np.random.Generator) -> None:
    hip = rng.uniform(1.6, 2.2)
    for side, _ in SIDES:
        pose.leg(side, hip + rng.normal(0, 0.1), 0.0, rng.uniform(0.05, 0.5), hip + rng.uniform(0.1, 0.4))
        pose.arm(side, rng.uniform(0.4, 1.1), rng.uniform(0.9, 1.6), rng.uniform(0.1, 1.4))
    lean = rng.uniform(0.15, 0.4)
    pose.turn("spine04", (X, lean))
    pose.turn("spine02", (X, lean))


def _kneel(pose: Pose, rng: np.random.Generator) -> None:
    both = rng.random() < 0.5
    for side, _ in SIDES:
        front = not both and side == "L"
        pose.leg(side, 1.5 if front else rng.uniform(-0.1, 0.4), 0.0, 0.1, 1.5 if front else rng.uniform(1.5, 2.2))
        pose.turn(f"foot.{side}", (X, 0.0 if front else 0.6))
        pose.arm(side, rng.uniform(0.2, 0.9), rng.uniform(0.8, 1.6), rng.uniform(0.2, 1.5))
    lean = rng.uniform(0.0, 0.35)
    pose.turn("spine04", (X, lean))
    pose.turn("spine02", (X, lean))


def _bend(pose: Pose, rng: np.random.Generator) -> None:
    bend = rng.uniform(0.7, 1.4)
    for side, _ in SIDES:
        pose.leg(side, bend * 0.1, 0.05, 0.05, rng.uniform(0.05, 0.6))
        pose.arm(side, rng.uniform(0.6, 1.4), rng.uniform(1.2, 1.7), rng.uniform(0, 0.5))
    for bone in ("spine05", "spine04", "spine03", "spine02"):
        pose.turn(bone, (X, bend / 4))


def _carry(pose: Pose, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        _walk(pose, rng)
    for side, _ in SIDES:
        pose.arm(side, rng.uniform(0.2, 0.5), rng.uniform(1.1, 1.5), rng.uniform(1.2, 1.7))


def _phone(pose: Pose, rng: np.random.Generator) -> None:
    side = str(rng.choice(["L", "R"]))
    if rng.random() < 0.5:  # at the ear, else in front of the face
        pose.arm(side, rng.uniform(0.6, 0.9), rng.uniform(0.4, 1.0), rng.uniform(2.2, 2.5))
    else:
        pose.arm(side, rng.uniform(0.3, 0.6), rng.uniform(1.2, 1.6), rng.uniform(1.4, 1.9))
        pose.turn("neck02", (X, 0.25))
        pose.turn("head", (X, 0.3))


def _bicycle(pose: Pose, rng: np.random.Generator) -> None:
    phase = rng.uniform(0, 2 * np.pi)
    for side, outward in SIDES:
        turn = outward * np.cos(phase)  # 1: this pedal is up
        pose.leg(side, 0.95 + 0.35 * turn, 0.0, 0.05, 1.0 + 0.5 * turn)
        pose.arm(side, rng.uniform(0.85, 1.0), 1.45, rng.uniform(0.1, 0.5))
    for bone in ("spine04", "spine02"):
        pose.turn(bone, (X, rng.uniform(0.15, 0.3)))
    pose.turn("head", (X, -0.3))
    pose.depth = -0.13


def _scooter(pose: Pose, rng: np.random.Generator) -> None:
    for side, _ in SIDES:
        pose.arm(side, rng.uniform(0.5, 0.7), 1.5, rng.uniform(0.4, 0.9))
    pose.leg("L", 0.25, -0.1, 0.0, 0.25)
    pose.leg("R", -0.1, -0.1, 0.0, 0.15)
    pose.depth = -0.12


def _swim(pose: Pose, rng: np.random.Generator) -> None:
    for side, _ in SIDES:
        pose.arm(side, rng.uniform(0.3, 3.0), rng.uniform(-0.2, 0.9), abs(rng.normal(0.1, 0.5)))
        pose.leg(side, rng.normal(0.05, 0.3), rng.uniform(-0.05, 0.35), 0.1, abs(rng.normal(0.1, 0.5)))
        pose.turn(f"foot.{side}", (X, 0.6))
    pose.turn("neck02", (X, -rng.uniform(0.0, 0.5)))
    pose.turn("head", (X, -rng.uniform(0.0, 0.4)))
    pose.tilt = rotation(X, np.pi / 2 - rng.uniform(0.0, 0.35)) @ rotation(Z, rng.normal(0, 0.25))
    pose.depth = rng.uniform(0.1, 0.2)


def _float(pose: Pose, rng: np.random.Generator) -> None:
    _lie(pose, rng)
    _lay_down(pose, rng, -1.0, 0.1)
    pose.depth = rng.uniform(0.05, 0.18)


def _wade(pose: Pose, rng: np.random.Generator) -> None:
    for side, _ in SIDES:
        pose.arm(side, rng.uniform(0.3, 1.6), rng.uniform(-0.2, 1.2), abs(rng.normal(0.2, 0.4)))
    pose.depth = rng.uniform(0.5, 1.3)


_ACTIVITIES = {
    "stand": _stand,
    "walk": _walk,
    "run": _run,
    "sit_chair": _sit_chair,
    "sit_ground": _sit_ground,
    "lie": _lie,
    "fallen": _fallen,
    "wave": _wave,
    "arms_up": _arms_up,
    "crouch": _crouch,
    "kneel": _kneel,
    "bend": _bend,
    "carry": _carry,
    "phone": _phone,
    "bicycle": _bicycle,
    "scooter": _scooter,
    "swim": _swim,
    "float": _float,
    "wade": _wade,
}
