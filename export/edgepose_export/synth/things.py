"""Things that are not people: what stands around, hides people, or is taken for one from above. All are built from simple shapes.

Each builder returns a mesh on the ground around the origin, in meters.
"""

from collections.abc import Callable

import numpy as np

from edgepose_export.synth.clothing import cloth_color
from edgepose_export.synth.meshes import Mesh, box, ellipsoid, lathe, merge, tube, wheel

_BLACK, _GRAY = (0.06, 0.06, 0.07), (0.45, 0.46, 0.48)
_FUR = ((0.25, 0.15, 0.08), (0.6, 0.45, 0.25), (0.08, 0.07, 0.07), (0.85, 0.82, 0.76), (0.4, 0.36, 0.33))
_LEAVES = ((0.12, 0.25, 0.08), (0.2, 0.33, 0.1), (0.3, 0.36, 0.12), (0.1, 0.18, 0.08))


def draw_bicycle(rng: np.random.Generator) -> Mesh:
    """Draw a bicycle that stands along x, its saddle about 0.9 m high and 0.2 m behind the middle."""
    color, r = cloth_color(rng), rng.uniform(0.26, 0.35)
    back, front, crank, saddle, bar = (-0.52, 0, r), (0.52, 0, r), (-0.08, 0, r - 0.05), (-0.2, 0, 0.85), (0.4, 0, 0.92)
    parts = [wheel(back, r, 0.05, _BLACK), wheel(front, r, 0.05, _BLACK)]
    parts += [
        tube(a, b, 0.02, color) for a, b in ((back, crank), (crank, saddle), (crank, bar), (saddle, bar), (back, saddle), (front, bar))
    ]
    parts += [tube((0.42, -0.3, 0.98), (0.42, 0.3, 0.98), 0.015, _BLACK), ellipsoid((-0.22, 0, 0.9), (0.14, 0.07, 0.04), _BLACK)]
    return merge(parts)


def draw_scooter(rng: np.random.Generator) -> Mesh:
    """Draw a kick scooter that stands along x."""
    color, high = cloth_color(rng), rng.uniform(0.7, 1.1)
    parts = [box((0, 0, 0.1), (0.7, 0.13, 0.04), color), tube((0.38, 0, 0.1), (0.33, 0, high), 0.022, _GRAY)]
    parts += [tube((0.33, -0.22, high), (0.33, 0.22, high), 0.018, _BLACK)]
    parts += [wheel((x, 0, 0.09), 0.08, 0.04, _BLACK) for x in (-0.4, 0.42)]
    return merge(parts)


def _bicycle(rng: np.random.Generator) -> Mesh:
    return _maybe_fallen(rng, draw_bicycle(rng))


def _kick_scooter(rng: np.random.Generator) -> Mesh:
    return _maybe_fallen(rng, draw_scooter(rng))


def _motor_scooter(rng: np.random.Generator) -> Mesh:
    color = cloth_color(rng)
    parts = [wheel((x, 0, 0.24), 0.2, 0.1, _BLACK) for x in (-0.6, 0.62)]
    parts += [ellipsoid((-0.45, 0, 0.55), (0.42, 0.18, 0.2), color), ellipsoid((-0.35, 0, 0.76), (0.36, 0.14, 0.06), _BLACK)]
    parts += [box((0.1, 0, 0.3), (0.5, 0.3, 0.08), color), ellipsoid((0.42, 0, 0.65), (0.1, 0.2, 0.33), color)]
    parts += [tube((0.62, 0, 0.24), (0.42, 0, 1.0), 0.03, _GRAY), tube((0.4, -0.34, 1.0), (0.4, 0.34, 1.0), 0.02, _BLACK)]
    return merge(parts)


def _stroller(rng: np.random.Generator) -> Mesh:
    color = cloth_color(rng)
    parts = [wheel((x, y, 0.12), 0.11, 0.04, _BLACK) for x in (-0.3, 0.32) for y in (-0.25, 0.25)]
    parts += [box((0, 0, 0.5), (0.7, 0.36, 0.22), color), ellipsoid((-0.2, 0, 0.68), (0.25, 0.2, 0.25), color)]
    parts += [tube((0.3, y, 0.55), (0.55, y, 1.0), 0.015, _GRAY) for y in (-0.2, 0.2)]
    return merge([*parts, tube((0.55, -0.2, 1.0), (0.55, 0.2, 1.0), 0.02, _BLACK)])


def _car(rng: np.random.Generator) -> Mesh:
    color, long, wide = cloth_color(rng), rng.uniform(3.6, 4.9), rng.uniform(1.65, 1.9)
    glass = (0.05, 0.06, 0.08)
    cabin, roof = -0.08 * long, rng.uniform(1.35, 1.75)
    heights = np.array([0.85, roof - 0.06, roof])
    centers = np.stack((np.full(3, cabin), np.zeros(3), heights), 1)
    parts = [box((0, 0, 0.55), (long, wide, 0.6), color), box((0, 0, 0.86), (long * 0.94, wide * 0.94, 0.06), color)]
    parts.append(box(centers[1], (long * 0.42, wide * 0.81, 0.1), glass))
    parts.append(box(centers[2], (long * 0.4, wide * 0.77, 0.05), color))
    parts.append(_frustum(cabin, 0.87, roof - 0.05, (long * 0.56, wide * 0.9), (long * 0.43, wide * 0.8), glass))
    parts += [wheel((x * long, y * wide, 0.32), 0.25, 0.2, _BLACK) for x in (-0.31, 0.31) for y in (-0.47, 0.47)]
    return merge(parts)


def _frustum(x: float, low: float, high: float, bottom: tuple[float, float], top: tuple[float, float], color: tuple[float, ...]) -> Mesh:
    mesh = box((0, 0, 0), (1, 1, 1), color)
    upper = mesh.vertices[:, 2:] > 0
    scale = np.where(upper, np.array(top), np.array(bottom))
    points = np.concatenate((mesh.vertices[:, :2] * scale + [x, 0], np.where(upper, high, low)), 1).astype(np.float32)
    return Mesh(points, mesh.normals, mesh.colors, mesh.faces)


def _chair(rng: np.random.Generator) -> Mesh:
    color, size = cloth_color(rng), rng.uniform(0.4, 0.55)
    half = size / 2 - 0.02
    parts = [tube((x, y, 0), (x, y, 0.45), 0.018, color) for x in (-half, half) for y in (-half, half)]
    parts += [box((0, 0, 0.45), (size, size, 0.04), color), box((0, half, 0.75), (size, 0.04, 0.4), color)]
    return _maybe_fallen(rng, merge(parts), 0.1)


def _lounger(rng: np.random.Generator) -> Mesh:
    color = cloth_color(rng)
    raised = rng.uniform(0.1, 0.5)
    back = np.array([[0, 1, 0], [0.8, 0, -0.6], [0.6, 0, 0.8]]) if raised > 0.3 else None
    parts = [box((0, 0, 0.3), (1.3, 0.6, 0.06), color), box((0.85, 0, 0.3 + raised / 2), (0.6, 0.6, 0.05), color, back)]
    return merge([*parts, *(box((x, 0, 0.14), (0.05, 0.5, 0.28), _GRAY) for x in (-0.5, 0.5))])


def _table(rng: np.random.Generator) -> Mesh:
    color, long = cloth_color(rng), rng.uniform(0.7, 2.0)
    top = lathe([(0.001, 0.7), (long / 2, 0.7), (long / 2, 0.74), (0.001, 0.74)], color, 18)
    if rng.random() < 0.5:
        top = box((0, 0, 0.72), (long, rng.uniform(0.6, 0.9), 0.04), color)
    return merge([top, tube((0, 0, 0), (0, 0, 0.7), 0.05, _GRAY)])


def _dog(rng: np.random.Generator) -> Mesh:
    color, s = np.array(_FUR[rng.integers(len(_FUR))]), rng.uniform(0.35, 1.0)
    parts = [ellipsoid((0, 0, 0.5), (0.38, 0.13, 0.15), color), ellipsoid((0.42, 0, 0.68), (0.13, 0.1, 0.11), color)]
    parts += [
        ellipsoid((0.55, 0, 0.64), (0.1, 0.06, 0.06), color * 0.8),
        tube((-0.34, 0, 0.55), (-0.6, rng.normal(0, 0.1), 0.7), 0.03, color),
    ]
    parts += [tube((x, y, 0.45), (x + rng.normal(0, 0.06), y, 0), 0.04, color, 0.03) for x in (-0.25, 0.25) for y in (-0.08, 0.08)]
    parts += [ellipsoid((0.4, y, 0.76), (0.03, 0.03, 0.07), color * 0.7) for y in (-0.08, 0.08)]
    return merge(parts).moved(scale=s)


def _bird(rng: np.random.Generator) -> Mesh:
    color = np.array(_FUR[rng.integers(len(_FUR))])
    parts = [ellipsoid((0, 0, 0.2), (0.16, 0.08, 0.08), color), ellipsoid((0.14, 0, 0.3), (0.05, 0.045, 0.05), color)]
    if rng.random() < 0.4:
        parts.append(ellipsoid((0, 0, 0.24), (0.1, 0.45, 0.02), color * 0.9))
    return merge([*parts, tube((0, 0, 0), (0, 0, 0.15), 0.015, (0.6, 0.4, 0.1))])


def _bag(rng: np.random.Generator) -> Mesh:
    wide, deep, high = rng.uniform(0.25, 0.8), rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.6)
    color = cloth_color(rng)
    if rng.random() < 0.5:
        return merge([ellipsoid((0, 0, high / 2), (wide / 2, deep / 2, high / 2), color)])
    return merge([box((0, 0, high / 2), (wide, deep, high), color), tube((-0.1, 0, high), (0.1, 0, high + 0.06), 0.015, _BLACK)])


def _pot(rng: np.random.Generator) -> Mesh:
    r, h, clay = rng.uniform(0.12, 0.4), rng.uniform(0.2, 0.6), (0.55, 0.3, 0.2)
    pot = lathe(
        [(r * 0.7, 0), (r, h), (r * 0.88, h), (r * 0.85, h * 0.8), (0.001, h * 0.8)], clay if rng.random() < 0.6 else cloth_color(rng)
    )
    return merge([pot, *_foliage(rng, h, r * 1.2)] if rng.random() < 0.7 else [pot])


def _foliage(rng: np.random.Generator, base: float, radius: float) -> list[Mesh]:
    color = np.array(_LEAVES[rng.integers(len(_LEAVES))])
    return [
        ellipsoid(
            np.array([*rng.normal(0, radius * 0.45, 2), base + abs(rng.normal(radius * 0.6, radius * 0.3))]),
            rng.uniform(0.25, 0.6, 3) * radius,
            np.clip(color * rng.uniform(0.6, 1.5), 0, 1),
        )
        for _ in range(int(rng.integers(6, 16)))
    ]


def _bush(rng: np.random.Generator) -> Mesh:
    return merge(_foliage(rng, 0.0, rng.uniform(0.4, 1.3)))


def _tree(rng: np.random.Generator) -> Mesh:
    high, wide = rng.uniform(1.8, 4.0), rng.uniform(0.8, 2.0)
    return merge([tube((0, 0, 0), (0, 0, high), 0.12, (0.25, 0.18, 0.12)), *_foliage(rng, high * 0.8, wide)])


def _parasol(rng: np.random.Generator) -> Mesh:
    r, high, color = rng.uniform(0.8, 1.6), rng.uniform(1.9, 2.4), cloth_color(rng)
    canopy = lathe([(r, high - 0.35), (r * 0.6, high - 0.1), (0.001, high)], color, 8)
    if rng.random() < 0.5:
        canopy.colors[(np.arange(len(canopy.colors)) % 8) % 2 == 0] = cloth_color(rng)
    return merge([canopy, tube((0, 0, 0), (0, 0, high), 0.025, _GRAY)])


def _pole(rng: np.random.Generator) -> Mesh:
    high, color = rng.uniform(0.8, 4.5), cloth_color(rng)
    parts = [tube((0, 0, 0), (0, 0, high), rng.uniform(0.03, 0.1), color)]
    if rng.random() < 0.4:
        parts.append(box((0, 0.06, high - 0.3), (0.5, 0.03, 0.5), cloth_color(rng)))
    if rng.random() < 0.3:
        parts.append(ellipsoid((0, 0, high), (0.15, 0.15, 0.15), cloth_color(rng)))
    return merge(parts)


def _hydrant(rng: np.random.Generator) -> Mesh:
    color, s = cloth_color(rng), rng.uniform(0.8, 1.6)
    body = lathe([(0.16, 0), (0.12, 0.06), (0.12, 0.5), (0.17, 0.52), (0.12, 0.66), (0.001, 0.72)], color)
    return merge([body, tube((-0.2, 0, 0.45), (0.2, 0, 0.45), 0.05, color)]).moved(scale=s)


def _cone(rng: np.random.Generator) -> Mesh:
    h = rng.uniform(0.4, 0.9)
    body = lathe([(0.17, 0.03), (0.12, h * 0.35), (0.12, h * 0.35), (0.08, h * 0.6), (0.03, h), (0.001, h)], (0.95, 0.35, 0.08))
    body.colors[24:48] = 0.9
    return merge([body, box((0, 0, 0.015), (0.4, 0.4, 0.03), (0.1, 0.1, 0.1))])


def _toy(rng: np.random.Generator) -> Mesh:
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        s, color = rng.uniform(0.08, 0.3), cloth_color(rng)
        place = np.array([*rng.normal(0, 0.2, 2), s * 0.5])
        parts.append(
            ellipsoid(place, (s / 2, s / 2, s / 2), color) if rng.random() < 0.5 else box(place, rng.uniform(0.5, 1.2, 3) * s, color)
        )
    return merge(parts)


def _manhole(rng: np.random.Generator) -> Mesh:
    r, tone = rng.uniform(0.25, 0.45), rng.uniform(0.08, 0.35)
    return merge([lathe([(r, 0), (r, 0.01), (r * 0.85, 0.012), (r * 0.8, 0.006), (0.001, 0.006)], (tone, tone, tone * 1.03), 18)])


def _towel(rng: np.random.Generator) -> Mesh:
    return box((0, 0, 0.01), (rng.uniform(1.2, 1.9), rng.uniform(0.5, 0.9), 0.02), cloth_color(rng))


def _barrel(rng: np.random.Generator) -> Mesh:
    r, h, color = rng.uniform(0.2, 0.35), rng.uniform(0.5, 1.1), cloth_color(rng)
    return lathe([(r * 0.9, 0), (r, h * 0.5), (r, h), (r * 0.9, h), (r * 0.88, h - 0.05), (0.001, h - 0.05)], color, 14)


def _pile(rng: np.random.Generator) -> Mesh:
    color = cloth_color(rng)
    return merge(
        [
            box(
                (*rng.normal(0, 0.4, 2), rng.uniform(0.03, 0.3)),
                np.exp(rng.normal(-1.2, 0.6, 3)),
                color if rng.random() < 0.5 else cloth_color(rng),
                np.linalg.qr(rng.normal(size=(3, 3)))[0],
            )
            for _ in range(int(rng.integers(2, 9)))
        ]
    )


def _boat(rng: np.random.Generator) -> Mesh:
    long, color = rng.uniform(2.0, 4.5), cloth_color(rng)
    return merge(
        [ellipsoid((0, 0, 0.1), (long / 2, long * 0.17, 0.3), color), box((0, 0, 0.35), (long * 0.2, long * 0.2, 0.08), cloth_color(rng))]
    )


def _buoy(rng: np.random.Generator) -> Mesh:
    r = rng.uniform(0.12, 0.4)
    return ellipsoid((0, 0, 0), (r, r, r), cloth_color(rng))


def _maybe_fallen(rng: np.random.Generator, mesh: Mesh, chance: float = 0.25) -> Mesh:
    if rng.random() > chance:
        return mesh
    turned = mesh.rotated(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    return turned.moved((0, 0, -float(turned.vertices[:, 2].min())))


Builder = Callable[[np.random.Generator], Mesh]
ON_LAND: dict[Builder, tuple[float, float]] = {
    _bicycle: (2.0, 0.6),
    _kick_scooter: (2.0, 0.4),
    _motor_scooter: (1.2, 0.7),
    _stroller: (1.2, 0.5),
    _car: (1.6, 2.2),
    _chair: (1.5, 0.4),
    _lounger: (1.0, 0.9),
    _table: (1.0, 0.7),
    _dog: (2.0, 0.4),
    _bird: (0.7, 0.2),
    _bag: (2.0, 0.3),
    _pot: (1.5, 0.3),
    _bush: (1.5, 0.8),
    _tree: (0.6, 0.5),
    _parasol: (0.9, 0.4),
    _pole: (1.2, 0.2),
    _hydrant: (1.2, 0.3),
    _cone: (0.8, 0.3),
    _toy: (1.5, 0.3),
    _manhole: (1.3, 0.0),
    _towel: (0.7, 0.8),
    _barrel: (1.0, 0.4),
    _pile: (1.5, 0.7),
}
"""Builders with how often each is drawn, and the radius in meters that people keep away from."""

IN_WATER: dict[Builder, tuple[float, float]] = {_boat: (1.0, 1.5), _buoy: (2.0, 0.4), _toy: (0.5, 0.3)}


def draw_thing(rng: np.random.Generator, builders: dict[Builder, tuple[float, float]]) -> tuple[Mesh, float]:
    """Draw a thing, turned anyhow; return it with the radius (meters) that people keep away from its middle."""
    names = list(builders)
    shares = np.array([builders[name][0] for name in names])
    builder = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    mesh = builder(rng)
    return mesh.moved(turn=rng.uniform(0, 2 * np.pi)), builders[builder][1]
