"""Scripts of clips: who is where and does what, and which events follow from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.clips.flights import directions
from edgepose_export.synth.clips.motion import Act, Actor, draw_act
from edgepose_export.synth.poses import Pose, draw_pose

Story = Literal["falls", "waves", "arms_up", "zones", "crossings", "rest"]
STORIES: tuple[Story, ...] = get_args(Story)

ZONE, LINE = "zone", "line"
"""Names of the zone and the line that each clip has."""
ZONE_LEFT, ZONE_RIGHT, LINE_AT = 0.52, 0.84, 0.36
"""Edges of the zone and place of the line, as shares of the width of the first picture."""


@dataclass(frozen=True, slots=True)
class StoryGround:
    """The ground that a camera sees at the middle of a clip, for people to be placed on.

    Attributes:
        azimuth: of the camera, radians.
        wide, deep: half of the ground's width and depth in meters.
        duration_s: of the clip.
    """

    azimuth: float
    wide: float
    deep: float
    duration_s: float

    def spot(self, across: float, away: float) -> NDArray[np.float64]:
        """Return a place (2,) on the ground, from shares (-1 to 1) to the right and away from the camera."""
        right, ahead = directions(self.azimuth)
        return np.asarray(across * self.wide * right + away * self.deep * ahead, np.float64)

    def toward(self, across: float, away: float) -> NDArray[np.float64]:
        """Return a unit vector (2,) to the right and away from the camera."""
        right, ahead = directions(self.azimuth)
        way = across * right + away * ahead
        return np.asarray(way / np.linalg.norm(way), np.float64)


def draw_actors(rng: np.random.Generator, story: Story, stage: StoryGround) -> list[Actor]:
    """Draw the people of a story."""
    return _STORIES[story](rng, stage)


def _falls(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw one who falls while walking, one who falls while standing, one who crouches, and one who walks on."""
    end = stage.duration_s
    first, second = rng.uniform(0.28, 0.4) * end, rng.uniform(0.45, 0.6) * end
    walker = _walker(rng, stage, float(rng.choice([-1, 1])), 0.1, [draw_act(rng, "fall", first, end)], until=first - 0.2)
    stander = _stander(rng, stage, rng.uniform(-0.75, -0.35), -0.5, [draw_act(rng, "fall", second, end)])
    croucher = _stander(rng, stage, rng.uniform(0.35, 0.75), -0.4, [draw_act(rng, "crouch", 0.25 * end, 0.7 * end)])
    return [walker, stander, croucher, _walker(rng, stage, float(rng.choice([-1, 1])), 0.75)]


def _waves(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw two who wave, one who telephones, and one who walks by."""
    end = stage.duration_s
    actors = []
    for across, away in ((rng.uniform(-0.65, -0.3), -0.35), (rng.uniform(0.3, 0.65), 0.1)):
        start = rng.uniform(0.1, 0.25) * end
        actors.append(_stander(rng, stage, across, away, [draw_act(rng, "wave", start, min(end, start + 0.62 * end))]))
    quiet = _stander(rng, stage, rng.uniform(-0.1, 0.1), 0.5, [draw_act(rng, "phone", 0.2 * end, 0.8 * end)])
    return [*actors, quiet, _walker(rng, stage, float(rng.choice([-1, 1])), 0.8)]


def _arms_up(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw two who raise both arms, one who bends down, and one who walks by."""
    end = stage.duration_s
    actors = []
    for across, away in ((rng.uniform(-0.65, -0.3), 0.05), (rng.uniform(0.3, 0.65), -0.35)):
        start = rng.uniform(0.12, 0.3) * end
        actors.append(_stander(rng, stage, across, away, [draw_act(rng, "arms_up", start, start + rng.uniform(0.35, 0.5) * end)]))
    bent = _stander(rng, stage, rng.uniform(-0.1, 0.1), 0.5, [draw_act(rng, "bend", 0.3 * end, 0.75 * end)])
    return [*actors, bent, _walker(rng, stage, float(rng.choice([-1, 1])), 0.8)]


def _zones(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw three who cross the line and the edge of the zone in both directions, and one who stands beside them."""
    walkers = [_walker(rng, stage, way, away, speed=rng.uniform(0.85, 1.15)) for way, away in ((1, -0.45), (-1, 0.1), (1, 0.6))]
    return [*walkers, _stander(rng, stage, rng.uniform(-0.2, 0.0), 0.35, [])]


def _crossings(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw six who walk past one another, some so close that they hide one another, some on a diagonal."""
    actors = []
    for number in range(6):
        way = 1.0 if number % 2 else -1.0
        away = (-0.5, -0.35, 0.0, 0.12, 0.5, 0.62)[number] + rng.normal(0, 0.04)
        diagonal = rng.uniform(-0.25, 0.25) if number > 3 else 0.0
        actors.append(_walker(rng, stage, way, away, speed=rng.uniform(0.9, 1.35), diagonal=diagonal))
    return actors


def _rest(rng: np.random.Generator, stage: StoryGround) -> list[Actor]:
    """Draw four who do not move at all: they stand, sit on the ground and crouch."""
    places = ((-0.65, -0.2), (-0.2, 0.3), (0.25, -0.35), (0.68, 0.25))
    kinds = ("stand", "stand", "sit_ground", str(rng.choice(["stand", "crouch", "kneel"])))
    return [
        Actor(
            draw_pose(rng, {kind: 1.0}),
            stage.spot(across + rng.normal(0, 0.05), away),
            facing=stage.toward(rng.normal(0, 0.6), -1),
            at_rest=True,
        )
        for kind, (across, away) in zip(kinds, places, strict=True)
    ]


def _idle(rng: np.random.Generator) -> Pose:
    """Draw a person who stands with hanging arms."""
    pose = draw_pose(rng, {"walk": 1.0})  # for a head that looks somewhere
    pose.kind = "stand"
    for side in "LR":
        pose.arm(side, abs(rng.normal(0.12, 0.06)), rng.uniform(0.0, 0.8), abs(rng.normal(0.2, 0.1)))
        pose.leg(side, rng.normal(0, 0.02), rng.uniform(0.0, 0.06), rng.normal(0.05, 0.05), abs(rng.normal(0, 0.04)))
    return pose


def _stander(rng: np.random.Generator, stage: StoryGround, across: float, away: float, acts: list[Act]) -> Actor:
    facing = stage.toward(rng.normal(0, 0.5), -1)
    return Actor(_idle(rng), stage.spot(across, away), facing=facing, acts=acts, phase=float(rng.random()))


def _walker(
    rng: np.random.Generator,
    stage: StoryGround,
    way: float,
    away: float,
    acts: list[Act] | None = None,
    *,
    until: float = np.inf,
    speed: float | None = None,
    diagonal: float = 0.0,
) -> Actor:
    """Return a person who walks through the middle of the picture at half of the clip, to the right (1) or to the left (-1)."""
    pace = rng.uniform(0.9, 1.3) if speed is None else speed
    velocity = stage.toward(way, diagonal) * pace
    middle = stage.spot(float(rng.normal(0, 0.06)), away)
    start = middle - velocity * min(stage.duration_s / 2, until)
    return Actor(_idle(rng), start, velocity, walks_until=until, acts=acts or [], phase=float(rng.random()))


_STORIES: dict[Story, Callable[[np.random.Generator, StoryGround], list[Actor]]] = {
    "falls": _falls,
    "waves": _waves,
    "arms_up": _arms_up,
    "zones": _zones,
    "crossings": _crossings,
    "rest": _rest,
}
