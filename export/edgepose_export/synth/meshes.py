"""Triangle meshes with a color per vertex, and the few shapes from which simple things are built.

Lengths are meters; z points up. Colors are RGB, 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A triangle mesh.

    Attributes:
        vertices: float32 (V, 3), meters.
        normals: float32 (V, 3), of unit length.
        colors: float32 (V, 3), RGB, 0 to 1.
        faces: int32 (F, 3), indices of vertices.
    """

    vertices: Floats
    normals: Floats
    colors: Floats
    faces: NDArray[np.int32]

    def moved(self, offset: ArrayLike = (0, 0, 0), turn: float = 0.0, scale: float = 1.0) -> "Mesh":
        """Return the mesh scaled, turned around the vertical axis (radians), then shifted."""
        rotation = turn_z(turn)
        vertices = (self.vertices * np.float32(scale)) @ rotation.T + np.asarray(offset, np.float32)
        return Mesh(vertices.astype(np.float32), self.normals @ rotation.T, self.colors, self.faces)

    def rotated(self, rotation: NDArray[np.floating]) -> "Mesh":
        """Return the mesh turned by a rotation matrix (3, 3)."""
        matrix = rotation.astype(np.float32)
        return Mesh(self.vertices @ matrix.T, self.normals @ matrix.T, self.colors, self.faces)


def turn_z(angle: float) -> Floats:
    """Return the rotation matrix around the vertical axis."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """Return one mesh of all triangles; an empty one for no meshes."""
    if not meshes:
        nothing = np.zeros((0, 3), np.float32)
        return Mesh(nothing, nothing, nothing, np.zeros((0, 3), np.int32))
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.colors for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]).astype(np.int32),
    )


def vertex_normals(vertices: Floats, faces: NDArray[np.int32]) -> Floats:
    """Return the mean of the normals of the faces around each vertex, weighted by their areas."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, corner], across[:, axis], len(vertices))
    return np.asarray(total / (np.linalg.norm(total, axis=1, keepdims=True) + np.float32(1e-12)), np.float32)


def _painted(vertices: NDArray[np.floating], faces: NDArray[np.integer], color: ArrayLike) -> Mesh:
    points, triangles = vertices.astype(np.float32), faces.astype(np.int32)
    colors = np.broadcast_to(np.asarray(color, np.float32), points.shape).copy()
    return Mesh(points, vertex_normals(points, triangles), colors, triangles)


def box(center: ArrayLike, size: ArrayLike, color: ArrayLike, axes: ArrayLike | None = None) -> Mesh:
    """Return a box with sharp edges; `axes` (3, 3) holds its unit axes as rows."""
    corners: list[NDArray[np.float64]] = []
    triangles: list[tuple[int, int, int]] = []
    for axis in range(3):
        for side in (-0.5, 0.5):
            square = np.zeros((4, 3))
            square[:, axis] = side
            square[:, (axis + 1) % 3] = (-0.5, 0.5, 0.5, -0.5)
            square[:, (axis + 2) % 3] = (-0.5, -0.5, 0.5, 0.5)
            first = 4 * len(corners)
            corners.append(square if side > 0 else square[::-1])
            triangles += [(first, first + 1, first + 2), (first, first + 2, first + 3)]
    local = np.concatenate(corners) * np.asarray(size, np.float64)
    frame = np.eye(3) if axes is None else np.asarray(axes, np.float64)
    return _painted(local @ frame + np.asarray(center, np.float64), np.array(triangles), color)


def lathe(profile: Sequence[tuple[float, float]], color: ArrayLike, sides: int = 12) -> Mesh:
    """Return the surface that a line of (radius, height) points draws when it turns around the z axis."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    rings = [np.stack((r * np.cos(angle), r * np.sin(angle), np.full(sides, z)), 1) for r, z in profile]
    return _painted(np.concatenate(rings), _strips(len(profile), sides), color)


def rings(centers: ArrayLike, first_axes: ArrayLike, second_axes: ArrayLike, color: ArrayLike, sides: int = 12) -> Mesh:
    """Return the surface through ellipses, facing outward: their centers (R, 3) and half axes (R, 3) each."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    middle, first, second = (np.asarray(value, np.float64)[:, None] for value in (centers, first_axes, second_axes))
    points = middle + first * np.cos(angle)[:, None] + second * np.sin(angle)[:, None]
    vertices, faces = points.reshape(-1, 3), _strips(len(points), sides)
    corners = (vertices - vertices.mean(0))[faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    return _painted(vertices, faces if volume > 0 else faces[:, ::-1], color)


def _strips(count: int, sides: int) -> NDArray[np.int64]:
    faces = []
    for ring in range(count - 1):
        for side in range(sides):
            a, b = ring * sides + side, ring * sides + (side + 1) % sides
            faces += [(a, b, b + sides), (a, b + sides, a + sides)]
    return np.array(faces)


def ellipsoid(center: ArrayLike, radii: ArrayLike, color: ArrayLike, axes: ArrayLike | None = None, sides: int = 10) -> Mesh:
    """Return an ellipsoid; `axes` (3, 3) holds its unit axes as rows."""
    steps = np.linspace(0.02, np.pi - 0.02, max(5, sides // 2 + 2))
    ball = lathe([(float(np.sin(step)), float(-np.cos(step))) for step in steps], color, sides)
    frame = np.eye(3) if axes is None else np.asarray(axes, np.float64)
    vertices = (ball.vertices * np.asarray(radii, np.float64)) @ frame + np.asarray(center, np.float64)
    return _painted(vertices, ball.faces, color)


def tube(start: ArrayLike, end: ArrayLike, radius: float, color: ArrayLike, end_radius: float | None = None, sides: int = 8) -> Mesh:
    """Return a closed round bar from one point to another."""
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = last - first
    along /= np.linalg.norm(along) + 1e-12
    helper = np.array([1.0, 0, 0]) if abs(along[0]) < 0.9 else np.array([0, 1.0, 0])
    side = np.cross(along, helper)
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    radii = np.array([1e-4, radius, radius if end_radius is None else end_radius, 1e-4])
    centers = np.stack([first, first, last, last])
    return rings(centers, radii[:, None] * side, radii[:, None] * other, color, sides)


def wheel(center: ArrayLike, radius: float, thickness: float, color: ArrayLike, axle: ArrayLike = (0, 1, 0), sides: int = 16) -> Mesh:
    """Return a tire: a ring of bars around an axle, open in the middle."""
    axis = np.asarray(axle, np.float64)
    axis /= np.linalg.norm(axis)
    helper = np.array([0, 0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0, 0])
    first = np.cross(axis, helper)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    angle = np.arange(sides + 1) * (2 * np.pi / sides)
    outward = first * np.cos(angle)[:, None] + second * np.sin(angle)[:, None]
    half = np.broadcast_to(axis * thickness / 2, outward.shape)
    return rings(np.asarray(center) + radius * outward, outward * thickness / 2, half, color, 6)
