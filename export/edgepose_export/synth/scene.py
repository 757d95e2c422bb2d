"""A scene: people and things on flat ground, a camera and light."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth import poses, things
from edgepose_export.synth.accessories import draw_held, draw_worn
from edgepose_export.synth.bodies import Body, BodyModel
from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.clothing import dress
from edgepose_export.synth.meshes import Mesh, merge, turn_z
from edgepose_export.synth.views import View, draw_camera, seen_length

_COUNTS = {0: 0.06, 1: 0.2, 2: 0.19, 3: 0.15, 4: 0.12, 5: 0.08, 6: 0.06, 8: 0.06, 10: 0.04, 12: 0.04}
_COARSE_BELOW_PX = 130  # people smaller than this show no difference


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A person at a place.

    Attributes:
        body: the posed body, in its own directions.
        surface: skin, clothes, hair, hat and backpack, in the world: what the silhouette is made of.
        held: what the person holds or sits on, in the world.
        keypoints: float64 (17, 3), in the world, meters.
    """

    body: Body
    surface: Mesh
    held: Mesh
    keypoints: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """The light of a scene.

    Attributes:
        direction: float64 (3,), toward the sun.
        ambient: share of the light that comes from everywhere, 0 to 1.
        hard: whether shadows have sharp edges.
    """

    direction: NDArray[np.float64]
    ambient: float
    hard: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """People and things before a camera.

    Attributes:
        camera: from where it is seen.
        people: at most 12.
        things: one mesh of all that is not a person and not held by one.
        light: sun and sky.
        water: whether the ground is water.
        thermal: whether a thermal camera looks.
    """

    camera: Camera
    people: list[Placed]
    things: Mesh
    light: Light
    water: bool
    thermal: bool


def draw_scene(rng: np.random.Generator, model: BodyModel, view: View, size: int) -> Scene:
    """Draw a scene for a view."""
    water, thermal = rng.random() < 0.06, rng.random() < (0.0 if view.set_name else 0.08)
    counts = list(_COUNTS)
    count = int(rng.choice(counts, p=list(_COUNTS.values())))
    count = max(count, 1) if view.set_name else count
    kinds = poses.IN_WATER if water else poses.ON_LAND
    drawn = [poses.draw_pose(rng, kinds) for _ in range(count)]
    bodies = model.draw(rng, drawn, coarse=view.person_px < _COARSE_BELOW_PX)
    turns = rng.uniform(0, 2 * np.pi, count)
    _, axes = look_at(np.zeros(3), 1.0, float(np.radians(view.elevation)), 0.0, 0.0)
    lengths = [seen_length(axes, body.vertices @ turn_z(turn).T) for body, turn in zip(bodies, turns, strict=True)]
    camera = draw_camera(rng, view, float(np.median(lengths)) if lengths else 1.0, size)

    taken: list[tuple[NDArray[np.float64], float]] = []
    people = []
    for body, turn in zip(bodies, turns, strict=True):
        radius = float(np.ptp(body.vertices[:, :2], axis=0).max()) * 0.3
        close = taken[-1][0] if taken and rng.random() < 0.4 else None
        spot = _free_spot(rng, camera, view, taken, radius, close)
        if spot is not None:
            taken.append((spot, radius))
            people.append(_place(rng, body, float(turn), spot))
    meshes = []
    for _ in range(int(rng.choice([0, 1, 2, 4, 6, 9], p=[0.2, 0.2, 0.2, 0.2, 0.12, 0.08]))):
        mesh, radius = things.draw_thing(rng, things.IN_WATER if water else things.ON_LAND)
        spot = _free_spot(rng, camera, view, taken, radius, None)
        if spot is not None and np.linalg.norm(camera.eye - [*spot, 1.0]) > 2 + radius * 2:
            taken.append((spot, radius * 0.7))
            meshes.append(mesh.moved([*spot, 0]))
    return Scene(camera, people, merge(meshes), draw_light(rng), water, thermal)


def draw_light(rng: np.random.Generator) -> Light:
    """Draw hard sunlight (two thirds) or the light of an overcast sky."""
    hard = rng.random() < 0.65
    height, azimuth = np.radians(rng.uniform(14, 80) if hard else rng.uniform(60, 90)), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
    return Light(direction, rng.uniform(0.3, 0.6) if hard else rng.uniform(0.7, 0.95), hard)


def _free_spot(
    rng: np.random.Generator,
    camera: Camera,
    view: View,
    taken: Sequence[tuple[NDArray[np.float64], float]],
    radius: float,
    close: NDArray[np.float64] | None,
) -> NDArray[np.float64] | None:
    """Return a place (2,) on the ground in the picture where nobody and nothing is; None where none is found soon."""
    middle = float(np.linalg.norm(camera.eye - [0, 0, 0.9]))
    low, high = (0.75, 1.4) if view.narrow else (0.5, 2.2)
    for _ in range(12):
        pixel = rng.uniform(-0.04, 1.04, (1, 2)) * camera.size
        points, distances = camera.ground(pixel, 0.8)
        spot, distance = points[0], float(distances[0])
        if not low * middle < distance < high * middle:  # near the horizon
            ray = camera.rays(pixel)[0, :2]
            ray /= np.linalg.norm(ray) + 1e-9
            spot = camera.eye[:2] + ray * np.exp(rng.uniform(np.log(low), np.log(high))) * middle
        if close is not None:
            spot = close + rng.normal(0, 0.7, 2)
        if all(np.linalg.norm(spot - other) > 0.75 * (radius + width) for other, width in taken):
            return np.asarray(spot, np.float64)
    return None


def _place(rng: np.random.Generator, body: Body, turn: float, spot: NDArray[np.float64]) -> Placed:
    at = (*spot, 0.0)
    surface = merge([*dress(rng, body), *draw_worn(rng, body)]).moved(at, turn)
    held = merge(draw_held(rng, body)).moved(at, turn)
    keypoints = body.keypoints.astype(np.float64) @ turn_z(turn).astype(np.float64).T + at
    return Placed(body, surface, held, keypoints)
