"""Walkers: people who come into the frame, do something and leave, as functions of a seed and the time."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose.simulation.figure import Arm, Pose, View, joints, project
from edgepose.simulation.movements import ease, swaying, walking

WIDTH, HEIGHT = 1280, 720
"""Size of the simulated frames in pixels."""

_ACTIONS = ("fall", "wave", "raise", "stand")
_LASTS_S = {"fall": 17.0, "wave": 6.0, "raise": 5.0, "stand": 8.0}
_TURN_S = 0.6  # from walking to facing the camera, and back
_PAUSE_S = (3.5, 5.0)  # outside of the frame: longer than it takes to have left
_NOISE_BODIES = 0.003
_LEAST_INSIDE = 0.3  # share of the body in the frame below which nobody finds it
_CONFIDENCE, _SCORE = 0.9, 0.85


@dataclass(frozen=True, slots=True)
class SeenPerson:
    """One walker in one frame, as a perfect network would see them.

    Attributes:
        box: x1 y1 x2 y2 in pixels.
        score: 0 to 1.
        keypoints: (17, 3), x y confidence.
    """

    box: NDArray[np.float32]
    score: float
    keypoints: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Visit:
    """One visit: walk in from the left, act in the middle, walk out to the right. Times in seconds, lengths in pixels."""

    begins_s: float
    action: str
    height_px: float
    feet_y: float
    middle_x: float
    speed: float
    pace_hz: float
    towards: float

    @property
    def _edge_px(self) -> float:
        return 0.4 * self.height_px

    @property
    def _acts_s(self) -> float:
        """Seconds from the beginning to the action."""
        return (self.middle_x + self._edge_px) / self.speed

    @property
    def ends_s(self) -> float:
        """The moment when the walker has left the frame."""
        out_s = (WIDTH + self._edge_px - self.middle_x) / self.speed
        return self.begins_s + self._acts_s + _LASTS_S[self.action] + out_s

    def joints_at(self, t_s: float) -> NDArray[np.float64]:
        """Return the joints (17, 2) in pixels."""
        acting_s, lasts_s = t_s - self.begins_s - self._acts_s, _LASTS_S[self.action]
        walked_s = min(acting_s, 0.0) + max(acting_s - lasts_s, 0.0)
        turned = ease(acting_s, 0.0, _TURN_S) - ease(acting_s, lasts_s - _TURN_S, _TURN_S)
        pose = walking(t_s * self.pace_hz) if not 0 <= acting_s <= lasts_s else self._acting(acting_s)
        view = View(heading=90 * (1 - turned), height_px=self.height_px)
        return project(joints(pose), view, (self.middle_x + self.speed * walked_s, self.feet_y))

    def _acting(self, t_s: float) -> Pose:
        still = swaying(t_s, self.towards)
        match self.action:
            case "fall":  # fast, as gravity does it; then slowly up again
                down = min(1.0, max(0.0, (t_s - 1.5) / 0.6)) ** 1.7 * (1 - ease(t_s, 14.5, 1.8))
                arms = (Arm(10 + 25 * down, 15 + 25 * down), Arm(12 + 20 * down, 20 + 20 * down))
                return replace(still if down < 1 else Pose(), arms=arms, tip=88 * down, towards=self.towards)
            case "wave":
                up, out = ease(t_s, 0.8, 0.5) - ease(t_s, 5.0, 0.5), 35 * np.sin(2 * np.pi * 1.2 * t_s)
                return replace(still, arms=(Arm(8 + (142 + 0.7 * out) * up, 10 + (155 + out) * up, 10, 15), Arm()))
            case "raise":
                up = ease(t_s, 0.8, 0.5) - ease(t_s, 4.0, 0.5)
                arm = Arm(8 + 150 * up, 8 + 160 * up, 0, 5)
                return replace(still, arms=(arm, arm))
        return still


class Walker:
    """One person who visits the frame of a camera again and again, each time with the next action.

    Args:
        seed: of the simulation.
        camera, number: of the camera and the walker, from 0.
    """

    def __init__(self, seed: int, camera: int, number: int) -> None:
        self._number = number
        self._rng = np.random.default_rng((seed, camera, number))
        self._visits = self._plan()
        self._visit = next(self._visits)

    def at(self, t_s: float) -> SeenPerson | None:
        """Return the walker at a moment, None while they are outside; moments must not fall."""
        while t_s >= self._visit.ends_s:
            self._visit = next(self._visits)
        if t_s < self._visit.begins_s:
            return None
        points = self._visit.joints_at(t_s)
        points += self._rng.normal(0, _NOISE_BODIES * self._visit.height_px, points.shape)
        return _seen(points)

    def _plan(self) -> Iterator[_Visit]:
        rng, begins_s, turn = self._rng, 0.5 + 2.0 * self._number, self._number
        while True:
            height_px = float(rng.uniform(230, 300))
            visit = _Visit(
                begins_s=begins_s,
                action=_ACTIONS[turn % len(_ACTIONS)],
                height_px=height_px,
                feet_y=float(rng.uniform(0.78, 0.92)) * HEIGHT,
                middle_x=float(rng.uniform(0.42, 0.58)) * WIDTH,
                speed=float(rng.uniform(1.0, 1.3)) * height_px,
                pace_hz=float(rng.uniform(0.8, 1.1)),
                towards=float(rng.choice([90, 270])),
            )
            yield visit
            begins_s, turn = visit.ends_s + float(rng.uniform(*_PAUSE_S)), turn + 1


def _seen(points: NDArray[np.float64]) -> SeenPerson | None:
    size = np.array((WIDTH, HEIGHT))
    pad = 0.04 * np.ptp(points, axis=0).max()
    low, high = points.min(0) - (pad, 2 * pad), points.max(0) + pad
    inside_low, inside_high = np.clip(low, 0, size), np.clip(high, 0, size)
    if np.prod(inside_high - inside_low) < _LEAST_INSIDE * np.prod(high - low):
        return None
    box = np.concatenate((inside_low, inside_high)).astype(np.float32)
    keypoints = np.concatenate((points, np.full((17, 1), _CONFIDENCE)), 1).astype(np.float32)
    return SeenPerson(box, _SCORE, keypoints)
