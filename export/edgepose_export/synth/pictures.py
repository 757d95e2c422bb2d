"""One picture with its labels, from its number alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth import effects
from edgepose_export.synth.backgrounds import Photographs, draw_background
from edgepose_export.synth.bodies import BodyModel
from edgepose_export.synth.camera import Camera
from edgepose_export.synth.labels import label_people
from edgepose_export.synth.renderer import Renderer
from edgepose_export.synth.scene import draw_scene
from edgepose_export.synth.shading import scene_triangles, shadow_strength, shadow_triangles
from edgepose_export.synth.views import SPLITS, Split, draw_view

_STEEP = 50  # degrees; from here on a photograph of the ground may be turned by quarters


@dataclass(frozen=True, slots=True)
class Plan:
    """What a set of pictures depends on.

    Attributes:
        seed: of all random numbers.
        split: train, or eval with its own people and backgrounds.
        size: side of the square pictures in pixels.
        backgrounds: folders of photographs without people.
        looks: weather and light of the pictures in turn; empty draws them.
    """

    seed: int
    split: Split
    size: int
    backgrounds: tuple[Path, ...] = ()
    looks: tuple[effects.Appearance, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class LabeledPicture:
    """A picture with its labels.

    Attributes:
        jpeg: the file.
        image: its fields `elevation`, `set` (eval), in COCO's `images`.
        people: annotations without identities.
    """

    jpeg: bytes
    image: dict[str, Any]
    people: Sequence[dict[str, Any]]


class PictureMaker:
    """The body model, the renderer and the photographs of one process.

    Raises:
        UnavailableError: a library of the extra `synth` or EGL is missing.
        ConfigError: a folder of backgrounds is refused.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._photographs = Photographs(plan.backgrounds, plan.split)
        self._renderer = Renderer(plan.size)
        self._model = BodyModel()

    def make(self, index: int) -> LabeledPicture:
        """Draw, render and label the picture with a number."""
        plan = self._plan
        rng = picture_rng(plan.seed, plan.split, index)
        view = draw_view(rng, plan.split, index, plan.size)
        scene = draw_scene(rng, self._model, view, plan.size)
        look = plan.looks[index % len(plan.looks)] if plan.looks else None
        if look is not None:
            scene = replace(scene, thermal=look == "thermal")
        camera, light = scene.camera, scene.light
        ground = draw_background(rng, self._photographs, camera, steep=view.elevation > _STEEP, water=scene.water)
        if scene.thermal:
            ground = effects.cool_ground(rng, ground)
        else:
            blur = view.person_px * (rng.uniform(0.0, 0.006) if light.hard else rng.uniform(0.03, 0.08))
            strength = shadow_strength(light) * (0.25 if scene.water else rng.uniform(0.8, 1.0))
            cover = self._renderer.coverage(shadow_triangles(scene))
            ground = effects.put_shadows(ground, cover, strength, blur, rng.uniform(0, 0.15))
        rendering = self._renderer.render(scene_triangles(scene, rng, self._renderer, ground.mean((0, 1))))
        level = 1.0 if scene.thermal else float(np.clip(ground.mean() / 0.4, 0.7, 1.25) * rng.uniform(0.9, 1.2))
        mixed = ground * (1 - rendering.color[..., 3:]) + rendering.color[..., :3] * np.float32(level)
        distance = np.where(rendering.depth > 0, rendering.depth, _ground_distance(camera)).astype(np.float32)
        pixels = effects.draw_effects(rng, mixed.astype(np.float32), distance, thermal=scene.thermal, mild=plan.split == "eval", look=look)
        quality = int(rng.integers(80 if plan.split == "eval" else 45, 96)) if rng.random() < 0.7 else 95
        image: dict[str, Any] = {"elevation": round(view.elevation, 1)}
        if view.set_name:
            image["set"] = view.set_name
        if look is not None:
            image["look"] = look
        return LabeledPicture(encoded_jpeg(pixels, quality), image, label_people(scene, rendering))


def picture_rng(seed: int, split: Split, index: int) -> np.random.Generator:
    """Return the random numbers of one picture, whatever was made before; those of the two splits never coincide."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


def _ground_distance(camera: Camera) -> NDArray[np.float32]:
    """Return the distance (S, S) of the ground at each pixel in meters; infinite in the sky."""
    step = 8
    rows, columns = np.mgrid[0 : camera.size : step, 0 : camera.size : step]
    _, distance = camera.ground(np.stack((columns.ravel(), rows.ravel()), 1) + step / 2)
    coarse = np.minimum(distance, 1e6).reshape(rows.shape).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (camera.size, camera.size), interpolation=cv2.INTER_LINEAR), np.float32)


def encoded_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return an RGB picture as a JPEG file."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return bytes(data)
