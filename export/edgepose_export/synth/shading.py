"""Sun, sky and shadows: the triangles of a scene in the colors that the camera sees."""

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.camera import Camera, look_at
from edgepose_export.synth.meshes import Floats, Mesh, merge
from edgepose_export.synth.renderer import MAX_PEOPLE, Renderer, Triangles
from edgepose_export.synth.scene import Light, Scene

_THING = 13.0  # owner of all that is not a person
_SUN_DISTANCE_M = 150.0  # far enough that the rays of the shadow map are nearly parallel
_SUN_BIAS_M = 0.05  # a surface does not shade itself because of the map's coarse pixels
_SUN = 1.4  # brightness of direct sunlight against that of the whole sky


def scene_triangles(scene: Scene, rng: np.random.Generator, renderer: Renderer, water_color: NDArray[np.floating]) -> Triangles:
    """Return all triangles as the camera sees them, lit; the renderer finds out where the sun does not reach."""
    parts: list[tuple[Mesh, float, bool]] = [(scene.things, _THING, False)]
    for number, person in enumerate(scene.people[:MAX_PEOPLE]):
        parts += [(person.surface, number + 1.0, True), (person.held, _THING, False)]
    whole = merge([mesh for mesh, _, _ in parts])
    owners = np.concatenate([np.full(len(mesh.vertices), owner, np.float32) for mesh, owner, _ in parts])
    if scene.thermal:
        warm = np.concatenate([_temperature(rng, mesh, warm=warm) for mesh, _, warm in parts])
        colors = np.repeat(warm[:, None], 3, 1)
    else:
        colors = _lit(whole, scene.light, _sunlit(whole, scene.light, renderer))
    if scene.water:
        below = np.clip(-whole.vertices[:, 2:] / 0.15, 0, 1) * 0.85
        colors = colors * (1 - below) + water_color * below
    pixels, depth = scene.camera.pixels(whole.vertices.astype(np.float64))
    return Triangles(scene.camera.clip(pixels, depth), np.clip(colors, 0, 1).astype(np.float32), owners, whole.faces)


def shadow_triangles(scene: Scene) -> Triangles:
    """Return the triangles of all shadows on the ground."""
    whole = merge([scene.things, *(mesh for person in scene.people for mesh in (person.surface, person.held))])
    vertices = whole.vertices.astype(np.float64)
    flat = vertices - np.maximum(vertices[:, 2:], 0) * (scene.light.direction / scene.light.direction[2])
    flat[:, 2] = 0.002
    pixels, depth = scene.camera.pixels(flat)
    ones = np.ones((len(flat), 3), np.float32)
    return Triangles(scene.camera.clip(pixels, depth), ones, ones[:, 0], whole.faces)


def shadow_strength(light: Light) -> float:
    """Return how much darker the ground is in the shadow, 0 to 1."""
    sun = (1 - light.ambient) * _SUN * float(light.direction[2])
    return sun / (sun + light.ambient) if light.hard else 0.4


def _sunlit(mesh: Mesh, light: Light, renderer: Renderer) -> Floats:
    """Return which vertices (V,) the sun reaches, 0 or 1, by a shadow map (Williams 1978): the scene's depth as the sun sees it."""
    if not light.hard or not len(mesh.vertices):
        return np.ones(len(mesh.vertices), np.float32)
    vertices = mesh.vertices.astype(np.float64)
    middle = (vertices.min(0) + vertices.max(0)) / 2
    reach = float(np.linalg.norm(vertices - middle, axis=1).max()) + 0.5
    height, azimuth = np.arcsin(light.direction[2]), np.arctan2(light.direction[1], light.direction[0])
    eye, axes = look_at(middle, _SUN_DISTANCE_M + reach, float(height), float(azimuth), 0.0)
    sun = Camera(eye, axes, renderer.size * _SUN_DISTANCE_M / (2 * reach), renderer.size)
    pixels, depth = sun.pixels(vertices)
    blank = np.zeros((len(vertices), 3), np.float32)
    nearest = renderer.depth(Triangles(sun.clip(pixels, depth), blank, blank[:, 0], mesh.faces))
    column, row = np.clip(pixels, 0, renderer.size - 1).astype(int).T
    bias = _SUN_BIAS_M + 2 * reach / renderer.size
    return np.asarray(depth < nearest[row, column] + bias, np.float32)


def _lit(mesh: Mesh, light: Light, sunlit: Floats) -> Floats:
    sun = np.maximum(mesh.normals @ light.direction.astype(np.float32), 0) * sunlit
    near_ground = 0.75 + 0.25 * np.clip(mesh.vertices[:, 2] / 1.2, 0, 1)  # less of the sky is seen there
    sky = (0.85 + 0.25 * mesh.normals[:, 2]) * near_ground
    return np.asarray(mesh.colors * (light.ambient * sky + (1 - light.ambient) * _SUN * sun)[:, None], np.float32)


def _temperature(rng: np.random.Generator, mesh: Mesh, *, warm: bool) -> Floats:
    """Return the brightness (V,) in a thermal picture: people are warm, their clothes a little less, things are like the ground."""
    tone = mesh.colors.mean(1) if len(mesh.colors) else np.zeros(0, np.float32)
    facing = 0.9 + 0.1 * mesh.normals[:, 2] if len(mesh.normals) else tone
    if warm:
        return np.asarray((rng.uniform(0.6, 0.9) + 0.25 * (tone - 0.4)) * facing, np.float32)
    return np.asarray((rng.uniform(0.15, 0.5) + 0.2 * (tone - 0.4)) * facing, np.float32)
