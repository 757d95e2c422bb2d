"""One clip with its labels, from its number alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose_export.synth import effects
from edgepose_export.synth.accessories import draw_worn
from edgepose_export.synth.backgrounds import Photographs
from edgepose_export.synth.bodies import Body, BodyModel, Shapes, draw_shapes
from edgepose_export.synth.clips.flights import MOVEMENTS, Flight, Movement, draw_flight, ground_motion, ground_to_image
from edgepose_export.synth.clips.ground import ClipGround
from edgepose_export.synth.clips.motion import Actor, Posture, anchored
from edgepose_export.synth.clips.scripts import STORIES, Story, StoryGround, draw_actors
from edgepose_export.synth.clips.truth import Marks, act_events, crossing_events, mark_ground
from edgepose_export.synth.clothing import dress
from edgepose_export.synth.labels import label_person
from edgepose_export.synth.meshes import merge
from edgepose_export.synth.renderer import Renderer, Rendering
from edgepose_export.synth.scene import Light, Placed, Scene, draw_light
from edgepose_export.synth.shading import scene_triangles, shadow_strength, shadow_triangles
from edgepose_export.synth.views import EVAL_ELEVATIONS, SPLITS, Split

_CLIPS = len(SPLITS)  # added to the split's number: no clip shares random numbers with a picture
_SCRIPT, _BODIES, _CLOTHES, _LIGHT, _GROUND, _LOOK, _FRAME = range(7)  # each has its own random numbers
_PIXELS_PER_M = (58.0, 92.0)  # in a picture of 640 px
_COARSE_BELOW = 95  # pixels a meter; bodies farther away show hardly any difference
_STEEP = 50  # degrees
_FIRST_PAIR: dict[Story, int] = {"falls": 0, "waves": 3, "arms_up": 7, "zones": 9, "crossings": 8, "rest": 6}
"""Number of the elevation and movement, of all combinations of both, with which a story begins: jitter and lag need a still camera."""


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What a set of clips depends on.

    Attributes:
        seed: of all random numbers.
        split: train, or eval with its own people and backgrounds.
        width, height: of the frames in pixels; the height is at most the width, both are even.
        fps: frames a second.
        seconds: duration of a clip.
        stories, elevations, movements: of the clips, in turn; see `combinations`.
        looks: weather and light of the clips, in turn.
        backgrounds: folders of photographs without people, which are laid on the ground; without any it is drawn.
    """

    seed: int
    split: Split = "train"
    width: int = 640
    height: int = 360
    fps: int = 10
    seconds: float = 8.0
    stories: tuple[Story, ...] = STORIES
    elevations: tuple[int, ...] = EVAL_ELEVATIONS
    movements: tuple[Movement, ...] = MOVEMENTS
    looks: tuple[effects.Appearance, ...] = ("clear",)
    backgrounds: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Check the size; ConfigError where it is refused."""
        if self.width % 2 or self.height % 2 or self.height > self.width:
            raise ConfigError(f"clips of {self.width}x{self.height} pixels; expected even sides, and a height of at most the width")

    @property
    def frames(self) -> int:
        """Number of frames of a clip."""
        return max(2, round(self.seconds * self.fps))

    @property
    def top(self) -> int:
        """First row of the square picture of the camera that is shown."""
        return (self.width - self.height) // 2


@dataclass(frozen=True, slots=True)
class Combination:
    """What one clip shows, and how the camera moves."""

    story: Story
    elevation: int
    movement: Movement
    look: effects.Appearance


@dataclass(frozen=True, slots=True, eq=False)
class LabeledFrame:
    """A frame with its labels.

    Attributes:
        pixels: uint8 (H, W, 3), RGB.
        image: its fields in COCO's `images`, without numbers and names of files.
        people: annotations by number of the person, from 0.
    """

    pixels: NDArray[np.uint8]
    image: dict[str, Any]
    people: dict[int, dict[str, Any]]


class Clip:
    """A clip whose frames are rendered while they are iterated, once; `video` and `events` are complete after that.

    Attributes:
        video: its fields in `videos`, without numbers and names of files.
        events: those of the clip, in the order of their beginnings; `person` counts from 0.
    """

    def __init__(self, plan: ClipPlan, index: int, model: BodyModel, renderer: Renderer, photographs: Photographs) -> None:
        self._plan, self._model, self._renderer = plan, model, renderer
        self._index = index
        self._combination = what = combination(plan, index)
        rng = self._rng(_SCRIPT)
        pixels_per_m = rng.uniform(*_PIXELS_PER_M) * plan.width / 640
        duration_s = plan.frames / plan.fps
        self._flight: Flight = draw_flight(rng, what.movement, what.elevation, pixels_per_m, plan.width, duration_s)
        flat = max(float(np.sin(self._flight.elevation)), 0.3)
        deep = min(0.5 * plan.height / pixels_per_m / flat * 0.8, 2.6)
        stage = StoryGround(self._flight.azimuth, 0.42 * plan.width / pixels_per_m, deep, duration_s)
        self._actors: list[Actor] = draw_actors(rng, what.story, stage)
        self._shapes: Shapes = draw_shapes(self._rng(_BODIES), len(self._actors))
        self._coarse = pixels_per_m < _COARSE_BELOW
        self._light: Light = draw_light(self._rng(_LIGHT))
        steep = what.elevation > _STEEP
        self._ground = ClipGround(self._rng(_GROUND), photographs, 1 / pixels_per_m, plan.width, steep=steep)
        self._marks: Marks | None = (
            mark_ground(self._flight.camera(0.0), plan.top, self._flight.distance) if what.story == "zones" else None
        )
        self._level: float | None = None
        self.events: list[dict[str, Any]] = act_events(self._actors, duration_s)
        self.video: dict[str, Any] = {
            "width": plan.width,
            "height": plan.height,
            "fps": plan.fps,
            "frames": plan.frames,
            "duration": duration_s,
            "story": what.story,
            "elevation": what.elevation,
            "camera": what.movement,
            "look": what.look,
            **(self._marks.to_json() if self._marks is not None else {"zones": {}, "lines": {}}),
        }

    def __iter__(self) -> Iterator[LabeledFrame]:
        plan, count = self._plan, len(self._actors)
        times_s = np.arange(plan.frames) / plan.fps
        feet, seen = np.zeros((count, plan.frames, 2)), np.zeros((count, plan.frames), bool)
        before: NDArray[np.float64] | None = None
        for number, time_s in enumerate(times_s.tolist()):
            postures = [actor.posture(time_s) for actor in self._actors]
            scene = self._scene(time_s, postures)
            ground = ground_to_image(scene.camera, plan.top)
            pixels, rendering = self._render(scene, number)
            people = self._labels(scene, rendering, postures)
            for person, placed in enumerate(scene.people):
                feet[person, number], seen[person, number] = placed.keypoints[15:17, :2].mean(0), person in people
            motion = np.eye(3) if before is None else ground_motion(before, ground)
            image = {
                "width": plan.width,
                "height": plan.height,
                "frame_id": number,
                "captured_at": round(time_s, 6),
                "elevation": self._combination.elevation,
                "set": str(self._combination.elevation),
                "ground_to_image": _digits(ground),
                "camera_motion": _digits(motion),
            }
            before = ground
            yield LabeledFrame(pixels, image, people)
        if self._marks is not None:
            for person in range(count):
                crossed = crossing_events(self._marks, feet[person], seen[person], times_s, self.video["duration"])
                self.events += [{**event, "person": person} for event in crossed]
        self.events = sorted(
            ({**event, "start": round(event["start"], 3), "end": round(event["end"], 3)} for event in self.events),
            key=lambda event: (event["start"], event["person"]),
        )

    def _rng(self, purpose: int, number: int = 0) -> np.random.Generator:
        return np.random.Generator(
            np.random.PCG64(
                np.random.SeedSequence([self._plan.seed, _CLIPS + SPLITS.index(self._plan.split), self._index, purpose, number])
            )
        )

    def _scene(self, time_s: float, postures: Sequence[Posture]) -> Scene:
        bodies = self._model.posed(self._shapes, [posture.pose for posture in postures], coarse=self._coarse)
        people = [self._placed(number, body, posture) for number, (body, posture) in enumerate(zip(bodies, postures, strict=True))]
        return Scene(self._flight.camera(time_s), people, merge([]), self._light, water=False, thermal=self._combination.look == "thermal")

    def _placed(self, number: int, body: Body, posture: Posture) -> Placed:
        rng = self._rng(_CLOTHES, number)  # anew in every frame, for the same clothes
        at = anchored(body, posture)
        surface = merge([*dress(rng, body), *draw_worn(rng, body)]).moved(at, posture.turn)
        cosine, sine = np.cos(posture.turn), np.sin(posture.turn)
        turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        return Placed(body, surface, merge([]), body.keypoints.astype(np.float64) @ turned.T + at)

    def _render(self, scene: Scene, number: int) -> tuple[NDArray[np.uint8], Rendering]:
        """Return the frame, uint8 (H, W, 3) RGB, with its rendering."""
        plan, what, light = self._plan, self._combination, scene.light
        ground, distance = self._ground.seen(scene.camera, plan.top)
        steady = self._rng(_LOOK)
        if scene.thermal:
            ground = effects.cool_ground(steady, ground)
        else:
            cover = self._renderer.coverage(shadow_triangles(scene))
            strength = shadow_strength(light) * steady.uniform(0.8, 1.0)
            blur_px = steady.uniform(0.3, 0.5) if light.hard else 2.5
            ground = effects.put_shadows(ground, cover, strength, blur_px, steady.uniform(0, 0.15))
        if self._level is None:
            self._level = 1.0 if scene.thermal else float(np.clip(ground.mean() / 0.4, 0.7, 1.25) * steady.uniform(0.95, 1.15))
        triangles = scene_triangles(scene, self._rng(_CLOTHES, len(scene.people)), self._renderer, np.zeros(3))
        rendering = self._renderer.render(triangles)
        image = ground * (1 - rendering.color[..., 3:]) + rendering.color[..., :3] * np.float32(self._level)
        seen_m = np.where(rendering.depth > 0, rendering.depth, distance).astype(np.float32)
        steady, moment = self._rng(_LOOK, 1), self._rng(_FRAME, number)
        shown = effects.show_look(what.look, steady, moment, image.astype(np.float32), seen_m)
        return effects.finish_frame(self._rng(_LOOK, 2), moment, shown), rendering

    def _labels(self, scene: Scene, rendering: Rendering, postures: Sequence[Posture]) -> dict[int, dict[str, Any]]:
        people = {}
        for number, posture in enumerate(postures):
            person = label_person(scene, rendering, number, self._plan.top)
            if person is not None:
                person["pose"] = posture.activity
                people[number] = person | ({"at_rest": 1} if posture.at_rest else {})
        return people


class ClipMaker:
    """The body model, the renderer and the photographs for the clips of a plan.

    Raises:
        UnavailableError: a library of the extra `synth` or EGL is missing.
        ConfigError: a folder of backgrounds is refused.
    """

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._photographs = Photographs(plan.backgrounds, plan.split)
        self._renderer = Renderer(plan.width, plan.top)
        self._model = BodyModel()

    def clip(self, index: int) -> Clip:
        """Return the clip with a number, not yet rendered."""
        return Clip(self._plan, index, self._model, self._renderer, self._photographs)


def combination(plan: ClipPlan, index: int) -> Combination:
    """Return what the clip with a number shows: the stories in turn, and for each story every elevation with every movement in turn."""
    story = index % len(plan.stories)
    pairs = list(product(plan.elevations, plan.movements))
    # Steps that share no factor with the number of pairs visit all of them; the first clips already differ in everything.
    first = _FIRST_PAIR[plan.stories[story]]
    elevation, movement = pairs[(index // len(plan.stories) * _step(len(pairs)) + first) % len(pairs)]
    return Combination(plan.stories[story], elevation, movement, plan.looks[index % len(plan.looks)])


def _step(count: int) -> int:
    return next(step for step in (7, 5, 3, 1) if np.gcd(step, count) == 1)


def _digits(matrix: NDArray[np.float64]) -> list[list[float]]:
    """Return a matrix with nine significant digits."""
    return [[float(f"{value:.9g}") for value in row] for row in matrix]
