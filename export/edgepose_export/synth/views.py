"""From where a picture is taken: how steeply, how far, how large people appear, with which lens."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgepose_export.synth.camera import Camera, look_at

Split = Literal["train", "eval"]
SPLITS: tuple[Split, ...] = get_args(Split)
EVAL_ELEVATIONS = (0, 30, 60, 90)
EVAL_HEIGHTS_PX = ((24, 48), (48, 96), (96, 200))
_REFERENCE = 640  # sizes of people are those in a picture of this side, in pixels


@dataclass(frozen=True, slots=True)
class View:
    """The plan of a view.

    Attributes:
        elevation: degrees down; 90 is straight down.
        person_px: the longer side of the middle person's box, in pixels.
        narrow: the lens sees little of the ground, so that all people are seen from nearly the same elevation; the horizon is level.
        set_name: the part of the eval split, empty in training.
    """

    elevation: float
    person_px: float
    narrow: bool = False
    set_name: str = ""


def draw_view(rng: np.random.Generator, split: Split, index: int, size: int) -> View:
    """Draw a view: in training half from 60 to 90 degrees and a quarter from 30 to 60; in eval each elevation with each size in turn."""
    if split == "eval":
        step = EVAL_ELEVATIONS[index % 4]
        low, high = EVAL_HEIGHTS_PX[index // 4 % 3]
        return View(float(step), _log_uniform(rng, low * 1.12, high / 1.12) * size / _REFERENCE, True, str(step))
    chance = rng.random()
    if chance < 0.15:
        elevation = rng.uniform(85, 90)
    elif chance < 0.5:
        elevation = rng.uniform(60, 90)
    elif chance < 0.75:
        elevation = rng.uniform(30, 60)
    else:
        elevation = rng.uniform(0, 30)
    person_px = float(np.clip(np.exp(rng.normal(np.log(52), 0.62)), 12, 250))
    return View(elevation, person_px * size / _REFERENCE)


def draw_camera(rng: np.random.Generator, view: View, person_m: float, size: int) -> Camera:
    """Draw a camera for a view: 2 to 60 m away, any roll, some lens distortion and rolling shutter.

    Args:
        rng: random numbers.
        view: what to see.
        person_m: length of the middle person as seen from there, meters.
        size: side of the picture in pixels.
    """
    pixels_per_m = view.person_px / person_m
    nearest = (1.3 if view.narrow else 0.5) * size / pixels_per_m  # a wider lens would turn people into stripes
    farthest = 8 * size / pixels_per_m
    distance = _log_uniform(rng, min(max(nearest, 2.0), 60.0), max(min(farthest, 60.0), min(max(nearest, 2.0), 60.0)))
    elevation = np.radians(view.elevation)
    level = 0.0 if view.narrow else 0.12  # share of cameras that hang anyhow; others hold the horizon
    free = rng.random() < (0.5 if view.elevation > 60 else level)
    roll = rng.uniform(-np.pi, np.pi) if free else rng.normal(0, np.radians(7))
    height = rng.uniform(0.7, 1.1)
    eye, axes = look_at(np.array([0, 0, height]), distance, float(elevation), rng.uniform(0, 2 * np.pi), float(roll))
    lens = (rng.uniform(-0.16, 0.05), rng.uniform(-0.02, 0.02)) if rng.random() < 0.5 else (0.0, 0.0)
    shear = rng.normal(0, 0.05) if rng.random() < 0.15 else 0.0
    wobble = (rng.uniform(0.001, 0.006), rng.uniform(1, 6), rng.random()) if rng.random() < 0.1 else (0.0, 0.0, 0.0)
    return Camera(eye, axes, pixels_per_m * distance, size, lens, float(shear), wobble)


def seen_length(camera_axes: NDArray[np.float64], vertices: NDArray[np.float32]) -> float:
    """Return the longer side of the box of a body as a distant camera sees it, in meters."""
    flat = vertices @ camera_axes[:2].T
    return float((flat.max(0) - flat.min(0)).max())


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
