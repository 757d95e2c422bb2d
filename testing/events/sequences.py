"""Sequences with known ground truth through the daemon's stages: a figure acts, measured noise of the model is added, events come out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.config.schema import CameraConfig, Config, EventsConfig
from edgepose.event import Event
from edgepose.frame import Frame
from edgepose.motion import STILL
from edgepose.person import Candidates
from edgepose.pipeline.postprocessor import Postprocessor
from edgepose.pipeline.stages import PreparedFrame
from edgepose.pose.letterbox import Letterbox
from edgepose.simulation.figure import View, joints, project
from edgepose.telemetry.metrics import Metrics
from testing.events.actions import Action

WIDTH, HEIGHT, INPUT = 640, 480, 320
SCALE = INPUT / WIDTH
ZONE = [(0.35, 0.0), (0.65, 0.0), (0.65, 1.0), (0.35, 1.0)]
ERROR_DURATION_S, ERROR_DISTANCE_BODIES = 4.0, 0.3
"""Time, or mean movement of the joints, in which one error of the network changes into another, whichever is reached first. The same frame
always has the same error, and a frame shifted by some pixels nearly the same (`jitter` in `noise.json` is drawn again in every frame)."""

LOST_S = 0.15
"""Mean duration of a lost detection."""

_CANDIDATES = 4
_IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
_LETTERBOX = Letterbox.fit(HEIGHT, WIDTH, 256, INPUT)


Detection = tuple[NDArray[np.float64], NDArray[np.float64], float]
"""Keypoints (17, 3), box (4) and score."""


class NoiseBank:
    """Errors of the shipped model on labeled people by posture and size (`noise.json`, written by `tools/measure_noise.py`)."""

    def __init__(self, path: Path = Path(__file__).parent / "noise.json") -> None:
        self.classes = json.loads(path.read_text())["classes"]
        for one in self.classes:
            one["errors"] = np.array([[[np.nan if v is None else v for v in k] for k in e] for e in one["errors"]])  # (people, 17, 3)
            one["boxes"], one["scores"], one["jitter"] = (np.array(one[name]) for name in ("boxes", "scores", "jitter"))

    def of(self, posture: str, size_px: float) -> dict[str, Any] | None:
        """Return the class of a body size in input pixels, None if the model detects no such people."""
        return next((c for c in self.classes if c["posture"] == posture and c["from_px"] <= size_px < c["to_px"]), None)


class Noise:
    """The errors of the network for one person.

    Args:
        blind: whether people are missed as often as measured; otherwise only flicker loses them, if the model detects such people at all.
    """

    def __init__(self, bank: NoiseBank, rng: np.random.Generator, *, blind: bool) -> None:
        self._bank, self._rng = bank, rng
        self._luck = 0.0 if not blind else rng.uniform()  # constant: a person who is hard to detect stays so
        self._class: dict[str, Any] | None = None
        self._now = self._next = (np.zeros((17, 3)), np.zeros(4), 0.0)
        self._share = 0.0  # of the way from one error to the next
        self._before: NDArray[np.float64] | None = None
        self._lost_until_s = 0.0

    def __call__(self, truth: NDArray[np.float64], box: NDArray[np.float64], lies: bool, t: float, dt: float) -> Detection | None:
        """Return keypoints (17, 3), box and score as the network would, or None if it does not detect the person."""
        size = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 1))))
        one = self._bank.of("lying" if lies else "upright", size * SCALE)
        if one is None or self._luck > one["found"]:
            return None
        if one is not self._class:
            first = self._class is None
            self._class, self._share = one, 0.0
            self._now, self._next = self._draw() if first else self._next, self._draw()
        if self._before is not None:
            self._share += dt / ERROR_DURATION_S + float(np.linalg.norm(truth - self._before, axis=1).mean()) / size / ERROR_DISTANCE_BODIES
        self._before = truth
        if self._share > 1:
            self._now, self._next, self._share = self._next, self._draw(), 0.0
        if t < self._lost_until_s:
            return None
        if self._rng.uniform() < one["lost"] * dt / max(dt, LOST_S):
            self._lost_until_s = t + self._rng.exponential(LOST_S)
            return None
        share = self._share
        errors = (1 - share) * self._now[0] + share * self._next[0]
        sides = (1 - share) * self._now[1] + share * self._next[1]
        score = (1 - share) * self._now[2] + share * self._next[2]
        keypoints = np.empty((17, 3))
        flicker = self._rng.normal(size=(17, 2)) * one["jitter"][:, None]
        keypoints[:, :2] = truth + (errors[:, :2] + flicker) * size
        keypoints[:, 2] = np.clip(errors[:, 2], 0, 1)
        return keypoints, box + sides * size, float(np.clip(score, 0.0, 1.0))

    def _draw(self) -> Detection:
        assert self._class is not None
        who = self._rng.integers(len(self._class["scores"]))
        errors = self._class["errors"][who].copy()
        for joint in np.flatnonzero(np.isnan(errors[:, 0])):  # not labeled: use another person's error of that joint
            known = self._class["errors"][:, joint]
            known = known[~np.isnan(known[:, 0])]
            errors[joint] = known[self._rng.integers(len(known))]
        return errors, self._class["boxes"][who], self._class["scores"][who]


@dataclass(frozen=True)
class Sequence:
    """The result of one action.

    Attributes:
        action: what was done.
        view: view of the camera.
        fps: frames per second.
        reported: events, with the time in seconds since the beginning.
        lying_detected_s: how long the network detected the lying figure.
    """

    action: Action
    view: View
    fps: float
    reported: list[tuple[float, Event]]
    lying_detected_s: float

    @property
    def expected(self) -> dict[str, float]:
        """Events that must be reported, with the earliest time of each. Figures appear inside the zone, except those who walk in."""
        return {"entered": 0.0, "zone_entered": 0.0} | self.action.expected


def play(
    action: Action,
    rng: np.random.Generator,
    bank: NoiseBank | None,
    *,
    blind: bool = False,
    settings: EventsConfig | None = None,
    **fixed: float,
) -> Sequence:
    """Let a figure act in front of a camera and return the reported events. Without a `bank`, the network makes no errors."""
    fps = fixed.get("fps", rng.choice([5, 8, 10, 15, 25, 30]))
    view = View(
        fixed.get("heading", rng.uniform(*action.headings)),
        fixed.get("pitch", rng.choice([0.0, rng.uniform(0, 20), rng.uniform(20, 45)])),
        fixed.get("height_px", float(np.exp(rng.uniform(np.log(80), np.log(320))))),
    )
    config = Config(cameras={"figure": CameraConfig(source="x", zones={"middle": ZONE})}, events=settings or EventsConfig())
    stage = Postprocessor("figure", config, Metrics())
    noise = Noise(bank, rng, blind=blind) if bank is not None else None
    reported: list[tuple[float, Event]] = []
    lying_detected_s = 0.0
    for number, (t, truth, lies) in enumerate(_truth(action, view, fps, rng)):
        found = _found(truth, lies, t, 1 / fps, noise)
        lying_detected_s += lies * (found is not None) / fps
        frame = Frame(_IMAGE, 1_800_000_000_000_000_000 + int(t * 1e9), "stream", number, "figure")
        stage.people(PreparedFrame(frame, _LETTERBOX, _IMAGE), _candidates(found), STILL)
        reported += [(t, event) for event in stage.events]
    return Sequence(action, view, float(fps), reported, lying_detected_s)


def _truth(action: Action, view: View, fps: float, rng: np.random.Generator) -> Iterator[tuple[float, NDArray[np.float64] | None, bool]]:
    """Yield time, joints in pixels (None: no person) and whether the body is lying, frame by frame. The camera drifts slightly."""
    drift, phase = rng.uniform(0, 0.03) * view.height_px, rng.uniform(0, 6)
    standing = view.height_px * np.cos(np.radians(view.pitch))
    feet_y = HEIGHT / 2 + standing / 2 + rng.uniform(-20, 20)
    speed = action.walks * view.height_px
    half = 0.35 * view.height_px
    lasts = action.lasts_s or (WIDTH + 2 * half) / speed + 5.0
    for number in range(int(lasts * fps)):
        t = number / fps
        x = WIDTH / 2 if not speed else -half + speed * (t - 0.5)
        x += drift * np.sin(0.7 * t + phase)
        y = feet_y + drift * np.cos(0.5 * t + phase)
        if speed and not -half <= x <= WIDTH + half:
            yield t, None, False
            continue
        pose = action.pose(t)
        yield t, project(joints(pose), view, (x, y)), pose.tip > 45


def _found(truth: NDArray[np.float64] | None, lies: bool, t: float, dt: float, noise: Noise | None) -> Detection | None:
    if truth is None:
        return None
    height = np.ptp(truth[[0, 15, 16], 1])
    pad = 0.03 * max(height, np.ptp(truth[:, 0]))
    low, high = truth.min(0) - (pad, 2 * pad), truth.max(0) + pad
    inside = np.array((*np.clip(low, 0, (WIDTH, HEIGHT)), *np.clip(high, 0, (WIDTH, HEIGHT))))
    if np.prod(inside[2:] - inside[:2]) < 0.3 * np.prod(high - low):
        return None  # hardly inside the frame
    if noise is None:
        return np.concatenate((truth, np.full((17, 1), 0.9)), 1), inside, 0.9
    return noise(truth, inside, lies, t, dt)


def _candidates(found: Detection | None) -> Candidates:
    boxes, scores, keypoints = (np.zeros(shape, np.float32) for shape in ((1, _CANDIDATES, 4), (1, _CANDIDATES), (1, _CANDIDATES, 17, 3)))
    if found is not None:
        points, box, score = found
        keypoints[0, 0] = points
        keypoints[0, 0, :, :2] *= SCALE
        boxes[0, 0], scores[0, 0] = box * SCALE, score
    return Candidates(boxes, scores, keypoints)
