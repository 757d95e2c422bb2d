"""Motion of one person: poses over time, on feet that do not slide.

A person walks along a line or stands, and does things meanwhile: each act pulls the pose toward another one and lets it go again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.bodies import Body
from edgepose_export.synth.poses import SIDES, Pose, X, Z, draw_pose, rotation

WAVE_HZ = 1.0
_LEG_M = 0.8  # of an adult
_STEP_REACH = 0.38  # radians that a thigh swings to the front and to the back
_STRIDE_M = 4 * _LEG_M * float(np.sin(_STEP_REACH))  # two steps; while a foot stands, the body passes over it
_STOPPING_S = 0.7
_SWAY = 0.012  # radians; nobody stands like a statue
_DRESSED_AS = "stand"  # clothes and hair of all frames are drawn for this activity, so that they stay the same


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a person does for a while.

    Attributes:
        kind: `fall`, `wave`, `arms_up`, or an activity of `edgepose_export.synth.poses` into which the person goes and comes back.
        start, end: seconds; a fall ends on the ground, where the person stays.
        target: the pose in the middle of the act.
        change_s: duration of the way into that pose and out of it.
        side: the arm that waves, L or R.
    """

    kind: str
    start: float
    end: float
    target: Pose
    change_s: float = 0.6
    side: str = "R"

    def share(self, time_s: float) -> float:
        """Return how far the pose is the target's, 0 to 1."""
        into = (time_s - self.start) / self.change_s
        if self.kind == "fall":
            return float(np.clip(into, 0, 1) ** 2)  # a body falls faster and faster
        return _eased(into) * _eased((self.end - time_s) / self.change_s)

    def pose(self, time_s: float) -> Pose:
        """Return the pose that the act pulls toward at a moment."""
        if self.kind != "wave":
            return self.target
        waving = Pose(self.kind, dict(self.target.bones))
        swing = np.sin(2 * np.pi * WAVE_HZ * (time_s - self.start))
        waving.arm(self.side, 2.3 + 0.45 * swing, 0.1, 0.1)
        return waving

    def activity(self, time_s: float) -> str:
        """Return the name of what is seen, in the words of `edgepose_export.synth.poses`; `fall` until the body lies."""
        if self.kind == "fall":
            return "fall" if time_s < self.start + self.change_s else "fallen"
        return self.kind


@dataclass(frozen=True, slots=True)
class Posture:
    """What a person looks like at a moment, before the body is there.

    Attributes:
        pose: the pose; its kind is the same at all times, for the clothes.
        activity: the name of what is seen.
        spot: float64 (2,), meters: where the anchor is.
        walking: 0 to 1: the anchor is between the feet of a person who stands (0), and at the hips of one who walks (1).
        turn: radians by which the body is turned around the vertical axis.
        at_rest: whether the person does not move at all.
    """

    pose: Pose
    activity: str
    spot: NDArray[np.float64]
    walking: float
    turn: float
    at_rest: bool


@dataclass(frozen=True, slots=True)
class Actor:
    """A person with all that they do in a clip.

    Attributes:
        idle: the pose of standing, sitting or whatever the person does between acts.
        start: float64 (2,), meters, at time 0.
        velocity: float64 (2,), meters a second; zero for a person who stays.
        facing: float64 (2,), unit vector: where a person who stays looks to; who walks looks ahead.
        walks_until: seconds after which a walking person stops.
        acts: at most one at a time, in order.
        phase: share of a stride at time 0.
        at_rest: whether the person does not even sway.
    """

    idle: Pose
    start: NDArray[np.float64]
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    facing: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, -1.0]))
    walks_until: float = np.inf
    acts: Sequence[Act] = ()
    phase: float = 0.0
    at_rest: bool = False

    def posture(self, time_s: float) -> Posture:
        """Return what the person looks like at a moment."""
        speed = float(np.linalg.norm(self.velocity))
        stopping = float(np.clip((time_s - self.walks_until) / _STOPPING_S, 0, 1))
        walking = (1.0 - stopping) if speed else 0.0
        ran_on = min(max(time_s - self.walks_until, 0.0), _STOPPING_S)
        moved_s = min(time_s, self.walks_until) + ran_on - ran_on**2 / (2 * _STOPPING_S)  # the speed falls evenly to 0
        pose = _blended(self.idle, _step(self.phase + speed * moved_s / _STRIDE_M), walking)
        if not self.at_rest:
            for bone, rate in (("spine04", 0.23), ("spine02", 0.31)):
                sway = rotation(X, _SWAY * np.sin(2 * np.pi * (rate * time_s + self.phase)))
                pose.bones[bone] = sway @ pose.bones.get(bone, np.eye(3))
        activity = "walk" if walking > 0.3 else self.idle.kind
        for act in self.acts:
            share = act.share(time_s)
            if share > 0:
                pose = _blended(pose, act.pose(time_s), share)
                activity = act.activity(time_s) if share > 0.5 or act.kind == "fall" else activity
        ahead = self.velocity / speed if speed else self.facing
        pose.kind = _DRESSED_AS
        spot = self.start + (self.velocity * moved_s if speed else 0.0)
        return Posture(pose, activity, spot, walking, float(np.arctan2(ahead[0], -ahead[1])), self.at_rest)


def draw_act(rng: np.random.Generator, kind: str, start: float, end: float) -> Act:
    """Draw an act: how somebody falls, waves, raises the arms or goes down for a while."""
    if kind == "fall":
        return Act(kind, start, end, _draw_fallen(rng), rng.uniform(0.55, 0.9))
    if kind == "wave":
        return Act(kind, start, end, Pose(kind), 0.5, str(rng.choice(["L", "R"])))
    if kind == "arms_up":
        target = Pose(kind)
        for side, _ in SIDES:
            target.arm(side, rng.uniform(2.6, 2.9), rng.uniform(0.0, 0.5), abs(rng.normal(0.1, 0.15)))
        return Act(kind, start, end, target, 0.5)
    return Act(kind, start, end, draw_pose(rng, {kind: 1.0}), 1.3 if kind.startswith(("sit", "lie")) else 0.8)


def _draw_fallen(rng: np.random.Generator) -> Pose:
    """Draw a pose on the back or on the face, with limbs flat enough for the trunk to touch the ground."""
    pose = Pose("fallen")
    face = float(rng.choice([-1.0, 1.0]))  # 1: what is in front of the body is below it, and limbs that go there would lift it
    for side, _ in SIDES:
        if face > 0:
            pose.arm(side, rng.uniform(0.3, 1.2), rng.uniform(-0.5, -0.3), -0.4)
            pose.leg(side, rng.uniform(-0.1, 0.0), rng.uniform(0.0, 0.3), 0.0, rng.uniform(0.0, 0.6))
        else:
            pose.arm(side, rng.uniform(0.4, 2.3), rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.6))
            hip = rng.uniform(0.0, 0.5)
            pose.leg(side, hip, rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.3), hip * rng.uniform(1.7, 2.0))
        pose.turn(f"foot.{side}", (X, 0.5))
    pose.turn("spine04", (X, 0.02), (Z, rng.normal(0, 0.1)))
    pose.tilt = rotation(X, face * np.pi / 2) @ rotation(Z, rng.normal(0, 0.12))
    return pose


def anchored(body: Body, posture: Posture) -> NDArray[np.float64]:
    """Return by how much to shift a turned body (3,), so that feet that stand stay where they are."""
    feet, hips = body.keypoints[15:17, :2].mean(0), body.keypoints[11:13, :2].mean(0)
    anchor = (1 - posture.walking) * feet + posture.walking * hips
    cosine, sine = np.cos(posture.turn), np.sin(posture.turn)
    turned = np.array([cosine * anchor[0] - sine * anchor[1], sine * anchor[0] + cosine * anchor[1]])
    return np.array([*(posture.spot - turned), 0.0])


def _step(phase: float) -> Pose:
    """Return the pose of a walker at a share of a stride, 0 to 1: half a stride a foot stands, half a stride it swings."""
    pose = Pose("walk")
    for side, outward in SIDES:
        share = (phase + (0.0 if outward > 0 else 0.5)) % 1.0
        if share < 0.5:  # the foot stands; the thigh goes back at the speed at which the body goes ahead
            swing, lift = 1 - 4 * share, 0.0
        else:
            swing, lift = -np.cos(2 * np.pi * (share - 0.5)), np.sin(2 * np.pi * (share - 0.5))
        hip = float(np.arcsin(np.sin(_STEP_REACH) * swing)) + 0.22 * lift
        pose.leg(side, hip, -0.03, 0.03, 0.06 + 0.75 * lift)
        arm = -0.8 * _STEP_REACH * np.cos(2 * np.pi * share)  # against the leg
        pose.arm(side, abs(arm) + 0.1, np.pi / 2 if arm > 0 else -np.pi / 2, 0.8 * max(arm, 0.0) - 0.2)
    turned = np.cos(2 * np.pi * phase)
    pose.turn("spine04", (X, 0.02), (Z, 0.05 * turned))
    pose.turn("spine02", (X, 0.02), (Z, -0.09 * turned))
    return pose


def _blended(first: Pose, second: Pose, share: float) -> Pose:
    """Return the pose on the shortest way from one to another; bones at rest in the second keep the first one's rotation upright."""
    if share <= 0:
        return Pose(first.kind, dict(first.bones), first.tilt)
    bones = dict(first.bones)
    for bone, matrix in second.bones.items():
        bones[bone] = _between(bones.get(bone, np.eye(3)), matrix, share)
    return Pose(first.kind, bones, _between(first.tilt, second.tilt, share))


def _between(first: NDArray[np.float64], second: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the rotation (3, 3) at a share of the way from one to another around one axis."""
    if share >= 1:
        return second
    axis = cv2.Rodrigues(first.T @ second)[0].ravel()
    angle = float(np.linalg.norm(axis))
    return first if angle < 1e-9 else np.asarray(first @ rotation(axis, share * angle), np.float64)


def _eased(share: float) -> float:
    """Return a share that starts and stops softly, 0 to 1."""
    held = float(np.clip(share, 0, 1))
    return held * held * (3 - 2 * held)
