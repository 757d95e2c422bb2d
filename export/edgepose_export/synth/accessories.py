"""What people wear and hold beyond clothes: hats, bags, umbrellas, boards, seats."""

from collections.abc import Sequence

import numpy as np

from edgepose_export.synth.bodies import Body
from edgepose_export.synth.clothing import cloth_color, head_frame, torso_frame
from edgepose_export.synth.meshes import Mesh, box, ellipsoid, lathe, tube
from edgepose_export.synth.things import draw_bicycle, draw_scooter

_LEFT_WRIST, _RIGHT_WRIST = 9, 10


def draw_worn(rng: np.random.Generator, body: Body) -> list[Mesh]:
    """Draw hats and backpacks, which count as a part of the person's silhouette."""
    worn = []
    in_water = body.pose.kind in ("swim", "float", "wade")
    if rng.random() < (0.1 if in_water else 0.3):
        worn += _hat(rng, body)
    if not in_water and body.pose.kind not in ("lie", "fallen") and rng.random() < 0.18:
        torso, deep = torso_frame(body), rng.uniform(0.1, 0.24)
        size = np.array([rng.uniform(0.22, 0.34), deep, rng.uniform(0.3, 0.5)]) * torso.size
        worn.append(box(torso.at(0, 0.1 + deep / 2, 0.06), size, cloth_color(rng), torso.axes))
    return worn


def _hat(rng: np.random.Generator, body: Body) -> list[Mesh]:
    head, color, kind = head_frame(body), cloth_color(rng), rng.integers(4)
    width, size = 0.092 + rng.uniform(0, 0.015), head.size

    def placed(mesh: Mesh, up: float, back: float = 0.0) -> Mesh:
        return (
            Mesh(mesh.vertices * np.float32(size), mesh.normals, mesh.colors, mesh.faces).rotated(head.axes.T).moved(head.at(0, back, up))
        )

    dome = [(width, 0.0), (width * 0.97, 0.04), (width * 0.75, 0.085), (width * 0.35, 0.105), (0.001, 0.11)]
    if kind == 0:  # cap with a visor
        visor = ellipsoid(head.at(0, -0.13, 0.045), np.array([0.075, 0.075, 0.012]) * size, color, head.axes)
        return [placed(lathe(dome, color), 0.04), visor]
    if kind == 1:  # hat with a brim
        brim = rng.uniform(0.14, 0.26)
        profile = [(brim, -0.015), (brim, 0.0), (width, 0.01), (width * 0.95, 0.09), (width * 0.7, 0.105), (0.001, 0.1)]
        return [placed(lathe(profile, color, 18), 0.05)]
    if kind == 2:  # helmet
        shell = [(r * 1.22, z * 1.2) for r, z in dome]
        return [placed(lathe(shell, color, 14), 0.03)]
    return [placed(lathe([(width * 1.02, -0.05), *dome], color), 0.045, 0.015)]  # woollen hat


def draw_held(rng: np.random.Generator, body: Body) -> list[Mesh]:
    """Draw what the hands hold and what the person sits on; it hides the person but is no part of their silhouette."""
    held: list[Mesh] = []
    kind, points = body.pose.kind, body.keypoints.astype(np.float64)
    if kind == "sit_chair":
        held += _seat(rng, body)
    if kind in ("bicycle", "scooter"):
        held.append(_vehicle(rng, body))
    if kind == "carry":
        middle = points[[_LEFT_WRIST, _RIGHT_WRIST]].mean(0)
        held.append(box(middle + np.array((0, -0.12, 0.02)), rng.uniform((0.2, 0.15, 0.1), (0.5, 0.35, 0.35)), cloth_color(rng)))
    elif kind in ("stand", "walk", "phone", "wave", "sit_chair"):
        chance = rng.random()
        if chance < 0.14:  # handbag, shopping bag, case
            wrist = points[_LEFT_WRIST] - np.array((0, 0, rng.uniform(0.2, 0.4)))
            wrist[2] = max(wrist[2], 0.2)
            held.append(box(wrist, rng.uniform((0.08, 0.2, 0.15), (0.2, 0.45, 0.4)), cloth_color(rng)))
        elif chance < 0.2 and kind != "phone":
            held += _umbrella(rng, points[_RIGHT_WRIST], body.height)
        elif chance < 0.24 and kind in ("stand", "walk"):  # a board or a plank under the arm
            middle = points[_LEFT_WRIST] + np.array((0.05, 0, 0.1))
            held.append(ellipsoid(middle, (0.05, rng.uniform(0.5, 1.1), 0.26), cloth_color(rng)))
        elif chance < 0.29:  # a stick, a broom, a fishing rod
            wrist = points[_RIGHT_WRIST]
            held.append(tube([wrist[0], wrist[1], 0.02], wrist + np.array((0, -0.1, rng.uniform(0.1, 0.9))), 0.015, cloth_color(rng)))
    return held


def _vehicle(rng: np.random.Generator, body: Body) -> Mesh:
    """Return the bicycle or scooter below a rider, heading as the rider does."""
    hips, ankles = body.keypoints[11:13].mean(0), body.keypoints[15:17].mean(0)
    if body.pose.kind == "scooter":
        return draw_scooter(rng).moved((ankles[0], ankles[1] - 0.05, 0), -np.pi / 2)
    scale = max(0.5, (float(hips[2]) - 0.08) / 0.9)
    return draw_bicycle(rng).moved((hips[0], hips[1] - 0.22 * scale, 0), -np.pi / 2, scale)


def _umbrella(rng: np.random.Generator, wrist: Sequence[float], height: float) -> list[Mesh]:
    radius, top, color = rng.uniform(0.4, 0.6), height + rng.uniform(0.1, 0.3), cloth_color(rng)
    canopy = lathe([(radius, -0.2), (radius * 0.7, -0.07), (radius * 0.35, -0.01), (0.001, 0.01)], color, 8)
    center = np.array([wrist[0] * 0.5, wrist[1] * 0.5, top])
    return [canopy.moved(center), tube(np.asarray(wrist), center, 0.012, (0.2, 0.2, 0.2))]


def _seat(rng: np.random.Generator, body: Body) -> list[Mesh]:
    """Return a bench, a chair or a block below the hips."""
    hips, knees = body.keypoints[11:13].mean(0), body.keypoints[13:15].mean(0)
    top, color, kind = max(0.12, float(hips[2]) - 0.1), cloth_color(rng), rng.random()
    x, y = float(hips[0]), float(hips[1] * 0.75 + knees[1] * 0.25)
    if kind < 0.35:
        return [box((x, y, top / 2), (rng.uniform(0.4, 1.8), rng.uniform(0.35, 0.6), top), color)]
    wide = 0.46 if kind < 0.8 else rng.uniform(1.0, 2.0)
    parts = [box((x, y, top - 0.02), (wide, 0.44, 0.04), color)]
    for side in (-0.45, 0.45):
        parts += [tube((x + side * wide, y + ahead, 0), (x + side * wide, y + ahead, top), 0.02, color) for ahead in (-0.19, 0.19)]
    if rng.random() < 0.7:
        parts.append(box((x, y + 0.24, top + 0.22), (wide, 0.03, 0.42), color))
    return parts
