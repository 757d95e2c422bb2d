"""Skin, hair and clothes: colors and offsets of a body's vertices, and surfaces for what hangs freely (skirts, coats, long hair)."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth import bodies
from edgepose_export.synth.bodies import Body
from edgepose_export.synth.meshes import Floats, Mesh, ellipsoid, rings

_SKIN = np.array([(0.95, 0.78, 0.66), (0.88, 0.68, 0.54), (0.75, 0.54, 0.41), (0.55, 0.37, 0.26), (0.36, 0.23, 0.16)])
_HAIR = np.array(
    [(0.05, 0.045, 0.045), (0.1, 0.07, 0.05), (0.2, 0.13, 0.08), (0.36, 0.24, 0.14), (0.62, 0.5, 0.3), (0.6, 0.6, 0.6), (0.38, 0.16, 0.08)]
)
_SAFETY = np.array([(0.85, 0.95, 0.15), (1.0, 0.45, 0.08), (1.0, 0.55, 0.1)])


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A place on the body with its directions, from keypoints.

    Attributes:
        origin: float64 (3,), meters.
        axes: float64 (3, 3), rows: to the person's left, to the back, up.
        size: relative to an adult's.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    size: float

    def at(self, left: float, back: float, up: float) -> NDArray[np.float64]:
        """Return a point at distances (meters for an adult) from the origin."""
        return self.origin + self.size * (np.array([left, back, up]) @ self.axes)


def head_frame(body: Body) -> Frame:
    """Return the middle between the ears with the head's directions."""
    nose, left_eye, right_eye, left_ear, right_ear = body.keypoints[:5].astype(np.float64)
    left = left_ear - right_ear
    face = (left_eye + right_eye + nose) / 3 - (left_ear + right_ear) / 2
    return _frame((left_ear + right_ear) / 2, left, -face, float(np.linalg.norm(left)) / 0.148)


def torso_frame(body: Body) -> Frame:
    """Return the middle of shoulders and hips with the torso's directions."""
    points = body.keypoints.astype(np.float64)
    shoulders, hips = points[5:7].mean(0), points[11:13].mean(0)
    left, up = points[5] - points[6], shoulders - hips
    return _frame((shoulders + hips) / 2, left, np.cross(up, left), float(np.linalg.norm(up)) / 0.48)


def _frame(origin: NDArray[np.float64], left: NDArray[np.float64], back: NDArray[np.float64], size: float) -> Frame:
    first = left / np.linalg.norm(left)
    second = back - (back @ first) * first
    second /= np.linalg.norm(second)
    return Frame(origin, np.stack((first, second, np.cross(first, second))), size)


def cloth_color(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the color of a piece of cloth: dark, light, denim or any."""
    kind = rng.random()
    if kind < 0.3:
        return np.clip(rng.uniform(0.03, 0.25) * rng.uniform(0.85, 1.15, 3), 0, 1)
    if kind < 0.45:
        return np.clip(rng.uniform(0.7, 0.97) * rng.uniform(0.93, 1.05, 3), 0, 1)
    if kind < 0.58:
        return np.clip(np.array([0.14, 0.2, 0.34]) * rng.uniform(0.6, 2.0), 0, 1)
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0.2, 0.95), rng.uniform(0.2, 0.95)]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float64)


def dress(rng: np.random.Generator, body: Body) -> list[Mesh]:
    """Dress a body: return its surface with clothes and hair, and the parts that hang freely."""
    anatomy = body.anatomy
    part, along = anatomy.part, anatomy.along
    skin = _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.85, 1.08)
    colors = np.tile(skin, (len(part), 1))
    offset = np.zeros(len(part))
    folds = _waves(rng, anatomy.rest)
    swimmer = body.pose.kind in ("swim", "float", "wade") or rng.random() < 0.04
    extra: list[Mesh] = []

    legs = (part == bodies.UPPER_LEG) | (part == bodies.LOWER_LEG)
    arms = (part == bodies.UPPER_ARM) | (part == bodies.LOWER_ARM)
    torso = (part == bodies.TORSO) | (part == bodies.NECK)
    waist = rng.uniform(0.12, 0.28)
    top, bottom = cloth_color(rng), cloth_color(rng)
    if swimmer and rng.random() < 0.5:
        top = skin
    sleeve = 0.0 if swimmer else float(rng.choice([0.0, rng.uniform(0.2, 0.5), 0.97], p=[0.12, 0.43, 0.45]))
    hem = 0.1 if swimmer else float(rng.choice([rng.uniform(0.05, 0.25), rng.uniform(0.3, 0.55), 0.97], p=[0.08, 0.24, 0.68]))
    neckline = rng.uniform(0.84, 1.02)

    trousers = (legs & (along < hem)) | (torso & (along < waist))
    shirt = (torso & (along >= waist - 0.1 * (not swimmer)) & (along < neckline)) | (arms & (along < sleeve))
    colors[trousers] = _pattern(rng, bottom, anatomy.rest[trousers], 0.12)
    loose = 0.003 if swimmer else rng.uniform(0.004, 0.03)
    offset[trousers] = loose * (1 + 0.5 * folds[trousers])
    if not np.array_equal(top, skin):
        colors[shirt] = _pattern(rng, top, anatomy.rest[shirt], 0.4)
        loose = 0.003 if swimmer else float(rng.choice([rng.uniform(0.004, 0.02), rng.uniform(0.02, 0.045)], p=[0.7, 0.3]))
        offset[shirt] = loose * (1 + 0.5 * folds[shirt])
    if not swimmer and rng.random() < 0.08:  # safety vest with reflecting bands
        vest = torso & (along > 0.1) & (along < 0.95)
        colors[vest] = _SAFETY[rng.integers(len(_SAFETY))]
        colors[vest & (np.abs(along - 0.35) < 0.05)] = 0.85
        offset[vest] += 0.012
    if not swimmer and rng.random() < 0.93:
        shoes = (part == bodies.FOOT) | ((part == bodies.LOWER_LEG) & (along > rng.uniform(0.9, 1.0)))
        plain = np.full(3, rng.choice([rng.uniform(0.03, 0.2), rng.uniform(0.7, 0.95)]))
        colors[shoes], offset[shoes] = plain if rng.random() < 0.6 else cloth_color(rng), 0.008
    if rng.random() < 0.05:  # gloves
        colors[part == bodies.HAND] = cloth_color(rng)

    if not swimmer and rng.random() < 0.16 and body.pose.kind not in ("crouch", "fallen", "kneel", "bicycle"):
        coat = rng.random() < 0.4
        extra.append(_skirt(rng, body, top if coat else cloth_color(rng), rng.uniform(0.3, 0.95)))
    hair = _HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.7, 1.3)
    if rng.random() < 0.9:
        colors[anatomy.scalp] = hair * rng.uniform(0.85, 1.15, (int(anatomy.scalp.sum()), 1))
        offset[anatomy.scalp] = rng.choice([rng.uniform(0.002, 0.012), rng.uniform(0.012, 0.035)])
        if rng.random() < 0.35:
            extra += _long_hair(rng, body, hair)

    colors *= (1 + 0.1 * folds * (offset > 0.002))[:, None]
    vertices = body.vertices + body.normals * offset[:, None].astype(np.float32)
    surface = Mesh(vertices, body.normals, np.clip(colors, 0, 1).astype(np.float32), anatomy.faces)
    return [surface, *extra]


def _waves(rng: np.random.Generator, rest: Floats) -> NDArray[np.float64]:
    """Return smooth noise (V,) of about -1 to 1 over the body: folds of cloth."""
    total = np.zeros(len(rest))
    for length in (0.04, 0.07, 0.12):
        direction = rng.normal(0, 2 * np.pi / length / 1.7, 3)
        total += np.sin(rest @ direction + rng.uniform(0, 2 * np.pi)) / 2
    return total


def _pattern(rng: np.random.Generator, color: NDArray[np.float64], rest: Floats, share: float) -> NDArray[np.float64]:
    """Return the colors (V, 3) of cloth that is plain, striped, checked, spotted, two-colored or printed."""
    colors = np.tile(color, (len(rest), 1))
    if rng.random() > share:
        return colors
    other, kind = cloth_color(rng), rng.integers(5)
    x, y, z = rest.T
    if kind == 0:
        chosen = np.sin(z * 2 * np.pi / rng.uniform(0.04, 0.2) + rng.uniform(0, 6)) > rng.uniform(-0.5, 0.7)
    elif kind == 1:
        chosen = (np.sin(z * 2 * np.pi / rng.uniform(0.06, 0.2)) > 0) ^ (np.sin(x * 2 * np.pi / rng.uniform(0.06, 0.2)) > 0)
    elif kind == 2:
        chosen = _waves(rng, rest) > 0.4
    elif kind == 3:
        chosen = (z > rng.uniform(0.1, 0.4)) if rng.random() < 0.6 else (x > 0)
    else:
        front = (y < -0.02) if rng.random() < 0.5 else (y > 0.02)
        chosen = front & (np.abs(x) < rng.uniform(0.05, 0.12)) & (np.abs(z - 0.25) < rng.uniform(0.04, 0.12))
    colors[chosen] = other
    return colors


def _skirt(rng: np.random.Generator, body: Body, color: NDArray[np.float64], length: float) -> Mesh:
    """Return a skirt or the tail of a coat around both legs; `length` 0 ends at the hips, 0.5 at the knees, 1 at the ankles."""
    points, torso = body.keypoints.astype(np.float64), torso_frame(body)
    hips, knees, ankles = (points[index : index + 2] for index in (11, 13, 15))
    steps = np.linspace(0, length, 6)
    flare = rng.uniform(0.02, 0.16)
    centers, sideways, forward = [torso.at(0, -0.02, -0.14)], [torso.axes[0] * 0.17 * torso.size], [torso.axes[1] * 0.13 * torso.size]
    for step in steps:
        upper, lower, part = (hips, knees, 2 * step) if step < 0.5 else (knees, ankles, 2 * step - 1)
        left, right = upper + (lower - upper) * part
        down = (lower - upper).mean(0)
        down /= np.linalg.norm(down)
        across = left - right
        across -= (across @ down) * down
        width = float(np.linalg.norm(across))
        across = across / width if width > 0.02 else torso.axes[0]
        ahead = np.cross(down, across)
        spread = (0.13 + flare * step) * torso.size
        centers.append((left + right) / 2)
        sideways.append(across * (width / 2 + spread))
        forward.append(ahead * (spread + 0.03) * np.sign(ahead @ torso.axes[1] + 1e-6))
    return rings(np.array(centers), np.array(sideways), np.array(forward), color, 16)


def _long_hair(rng: np.random.Generator, body: Body, color: NDArray[np.float64]) -> list[Mesh]:
    """Return hair that falls over neck and shoulders, a tail, or a bun."""
    head, kind = head_frame(body), rng.random()
    paint = np.clip(color, 0, 1)
    if kind < 0.55:
        length = rng.uniform(0.08, 0.2)
        radii = np.array([rng.uniform(0.08, 0.11), 0.06, length]) * head.size
        return [ellipsoid(head.at(0, 0.06, 0.03 - length * 0.6), radii, paint, head.axes)]
    if kind < 0.8:
        length = rng.uniform(0.08, 0.18)
        return [ellipsoid(head.at(0, 0.13, 0.04 - length * 0.7), np.array([0.03, 0.035, length]) * head.size, paint, head.axes)]
    return [ellipsoid(head.at(0, rng.uniform(0.02, 0.1), 0.13), np.array([0.045, 0.045, 0.045]) * head.size, paint, head.axes)]
