"""Bodies of all ages and shapes in any pose, from the body model `anny` (Apache-2.0; assets of MakeHuman, CC0)."""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import UnavailableError
from edgepose.person import KEYPOINT_NAMES
from edgepose_export.synth.meshes import Floats, vertex_normals
from edgepose_export.synth.poses import Pose

HEAD, NECK, TORSO, UPPER_ARM, LOWER_ARM, HAND, UPPER_LEG, LOWER_LEG, FOOT = range(9)

_PARTS = (
    (HEAD, ("head", "eye")),
    (NECK, ("neck",)),
    (UPPER_ARM, ("upperarm",)),
    (LOWER_ARM, ("lowerarm",)),
    (HAND, ("wrist", "finger", "metacarpal")),
    (UPPER_LEG, ("upperleg",)),
    (LOWER_LEG, ("lowerleg",)),
    (FOOT, ("foot", "toe")),
)


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What all bodies share at one level of detail: triangles, and where on the body each vertex is.

    Attributes:
        chosen: int64 (V,), indices of the vertices in the body model.
        faces: int32 (F, 3).
        part: uint8 (V,), one of HEAD to FOOT.
        along: float32 (V,): on arms 0 at the shoulder to 1 at the wrist, on legs 0 at the hip to 1 at the ankle,
            on the torso 0 at the hips to 1 at the neck; 0 elsewhere.
        rest: float32 (V, 3), the mean body at rest, meters.
        scalp: bool (V,), where hair grows.
    """

    chosen: NDArray[np.int64]
    faces: NDArray[np.int32]
    part: NDArray[np.uint8]
    along: Floats
    rest: Floats
    scalp: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A posed body that stands, sits or lies on the ground z = 0 around the origin and faces -y.

    Attributes:
        vertices: float32 (V, 3), meters.
        normals: float32 (V, 3).
        keypoints: float32 (17, 3), COCO's joints inside the body.
        height: of the person when standing, meters.
        pose: what it does.
        anatomy: its triangles, and where on the body the vertices are.
    """

    vertices: Floats
    normals: Floats
    keypoints: Floats
    height: float
    pose: Pose
    anatomy: Anatomy


Shapes = dict[str, NDArray[np.float64]]
"""Numbers (N,) of the body model for N people, by what they describe: age, weight, height, …"""


def draw_shapes(rng: np.random.Generator, count: int) -> Shapes:
    """Draw the shapes of people, a sixth of them children."""
    adult = rng.random(count) < 0.84
    return {
        "gender": rng.random(count),
        "age": np.where(adult, rng.uniform(0.62, 1.0, count), rng.uniform(0.22, 0.6, count)),
        "muscle": rng.uniform(0.2, 0.8, count),
        "weight": np.clip(rng.normal(0.5, 0.22, count), 0.05, 1.0),
        "height": np.clip(rng.normal(0.43, 0.09, count), 0.2, 0.7),
        "proportions": rng.uniform(0.2, 0.9, count),
    }


def cache_exists() -> bool:
    """Return whether the body model has its cache, without which the first construction takes about 90 s and writes 0.8 GB.

    Raises:
        UnavailableError: `anny` is not installed.
    """
    _import_anny()
    from anny.paths import get_anny_cache_path

    return any(Path(get_anny_cache_path()).glob("*/build_compact_model_data_*"))


def _import_anny() -> Any:
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import anny
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed, which the bodies need; expected the extra `synth`: pip install './export[synth]'"
        ) from error
    return anny


class BodyModel:
    """The parametric body model, loaded once a process (0.4 s; the first time on a machine about 90 s).

    Raises:
        UnavailableError: `anny` is not installed.
    """

    def __init__(self) -> None:
        anny = _import_anny()
        import torch

        self._torch = torch
        torch.set_num_threads(1)
        with contextlib.redirect_stdout(io.StringIO()), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            self._model = anny.Anny(skinning_method="lbs").eval()  # PyTorch alone; the other methods compile kernels at run time
            regressor = anny.KeypointsRegressor.coco(self._model, list(KEYPOINT_NAMES))
        self._regression = regressor.regression_weights.numpy()  # (17, V)
        self._bones = {name: index for index, name in enumerate(self._model.bone_labels)}
        self._fine = self._anatomy()
        self._coarse = _simplified(self._fine)

    def _anatomy(self) -> Anatomy:
        model = self._model
        with self._torch.no_grad():
            output = model()
        rest = output["vertices"][0].numpy()
        joints = {name: output["bone_poses"][0, index, :3, 3].numpy() for name, index in self._bones.items()}
        strongest = model.vertex_bone_weights.numpy().argmax(1)
        bones = np.array(model.bone_labels)[model.vertex_bone_indices.numpy()[np.arange(len(rest)), strongest]]
        part = np.full(len(rest), TORSO, np.uint8)
        for number, prefixes in _PARTS:
            part[np.array([str(bone).startswith(prefixes) for bone in bones])] = number
        along = np.zeros(len(rest))
        for side in "LR":
            for first, second, third, parts in (
                ("upperarm01", "lowerarm01", "wrist", (UPPER_ARM, LOWER_ARM)),
                ("upperleg01", "lowerleg01", "foot", (UPPER_LEG, LOWER_LEG)),
            ):
                ends = [joints[f"{bone}.{side}"] for bone in (first, second, third)]
                for half in range(2):
                    chosen = (part == parts[half]) & ((rest[:, 0] > 0) == (side == "L"))
                    line = ends[half + 1] - ends[half]
                    along[chosen] = 0.5 * half + 0.5 * (rest[chosen] - ends[half]) @ line / (line @ line)
        hips, neck = joints["upperleg01.L"][2], joints["neck01"][2]
        torso = (part == TORSO) | (part == NECK)
        along[torso] = (rest[torso, 2] - hips) / (neck - hips)
        eyes = joints["eye.L"]
        above = rest[:, 2] - eyes[2]
        behind = rest[:, 1] - eyes[1]
        scalp = (part == HEAD) & ((above > 0.055) | ((behind > 0.1) & (above > -0.05)) | ((behind > 0.13) & (above > -0.1)))
        faces = model.get_triangular_faces().numpy().astype(np.int32)
        return Anatomy(np.arange(len(rest)), faces, part, along.astype(np.float32), rest.astype(np.float32), scalp)

    def draw(self, rng: np.random.Generator, poses: Sequence[Pose], *, coarse: bool = False) -> list[Body]:
        """Draw a body for each pose; `coarse` bodies have a fifth of the triangles, for small people."""
        return self.posed(draw_shapes(rng, len(poses)), poses, coarse=coarse)

    def posed(self, shapes: Shapes, poses: Sequence[Pose], *, coarse: bool = False) -> list[Body]:
        """Return a body for each pose; the same shapes are the same people, in whatever poses."""
        if not poses:
            return []
        torch, count = self._torch, len(poses)
        transforms = np.tile(np.eye(4), (count, len(self._bones), 1, 1))
        for number, pose in enumerate(poses):
            for bone, matrix in pose.bones.items():
                transforms[number, self._bones[bone], :3, :3] = matrix
        with torch.no_grad():
            output = self._model(torch.from_numpy(transforms), {name: torch.from_numpy(value) for name, value in shapes.items()})
            standing = output["rest_vertices"][..., 2].numpy()
            vertices = output["vertices"].numpy()
        heights = np.broadcast_to(standing.max(1) - standing.min(1), (count,))
        anatomy = self._coarse if coarse else self._fine
        return [self._ground(vertices[number], float(heights[number]), poses[number], anatomy) for number in range(count)]

    def _ground(self, vertices: NDArray[np.float64], height: float, pose: Pose, anatomy: Anatomy) -> Body:
        """Tilt a body, put it on the ground and around the origin, and round it so that last bits do not matter."""
        tilted = vertices @ pose.tilt.T
        tilted -= [*tilted[:, :2].mean(0), tilted[:, 2].min() + pose.depth]
        rounded = np.round(tilted * 65536) / 65536
        keypoints = (self._regression @ rounded).astype(np.float32)
        final = rounded[anatomy.chosen].astype(np.float32)
        return Body(final, vertex_normals(final, anatomy.faces), keypoints, height, pose, anatomy)


def _simplified(fine: Anatomy, cell_m: float = 0.022) -> Anatomy:
    """Keep one vertex a cell of a grid over the body at rest (vertex clustering, Rossignac and Borrel 1993)."""
    cells = np.floor(fine.rest / cell_m).astype(np.int64)
    _, first, cluster = np.unique(np.column_stack((cells, fine.part)), axis=0, return_index=True, return_inverse=True)
    cluster = cluster.reshape(-1)
    faces = cluster[fine.faces]
    kept = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    chosen = first.astype(np.int64)
    return Anatomy(chosen, faces[kept].astype(np.int32), fine.part[chosen], fine.along[chosen], fine.rest[chosen], fine.scalp[chosen])
