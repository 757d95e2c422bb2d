"""The accuracy that a network loses on corrupted pictures: noise, occlusion and light (the paper's section X), and more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.person import Person
from edgepose_export.callbacks import Predict, Progress
from edgepose_export.data import color
from edgepose_export.data.coco import CocoPose, Picture
from edgepose_export.data.color import Image
from edgepose_export.data.warp import Matrix, bounds, carry, moved, paint, scaled, turned
from edgepose_export.evaluation.coco import Evaluation, evaluate_predictions
from edgepose_export.evaluation.predictor import open_predictor

Corrupted = tuple[Image, Picture]
Corruption = Callable[[Image, Picture, np.random.Generator], Corrupted]
"""Corrupts a picture; labels follow where people move."""

Strengths = tuple[Corruption, Corruption, Corruption]
"""A corruption from weak to strong."""


def noise(sigma: float) -> Corruption:
    """Return a corruption that adds sensor noise; `sigma` is its standard deviation in gray levels."""
    return lambda image, picture, rng: (color.noise(image, sigma, rng), picture)


def occlusion(share: float) -> Corruption:
    """Return a corruption that covers a random part of each person with a gray rectangle, of this share of the box's sides."""

    def corrupt(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
        covered = image.copy()
        for x1, y1, x2, y2 in picture.boxes:
            width, height = share * (x2 - x1), share * (y2 - y1)
            left, top = x1 + rng.random() * (x2 - x1 - width), y1 + rng.random() * (y2 - y1 - height)
            covered[round(top) : round(top + height), round(left) : round(left + width)] = 127
        return covered, picture

    return corrupt


def low_light(divisor: int, sigma: float) -> Corruption:
    """Return a corruption that divides gray levels, and adds the noise of a sensor at high gain (`sigma` gray levels)."""
    return lambda image, picture, rng: (color.noise((image // divisor).astype(np.uint8), sigma, rng), picture)


def blur(share: float) -> Corruption:
    """Return a corruption that blurs as out of focus: a standard deviation of this share of the long side."""
    return lambda image, picture, rng: (color.blur(image, max(image.shape[:2]) * share), picture)


def jpeg(quality: int) -> Corruption:
    """Return a corruption that compresses to JPEG of this quality."""
    return lambda image, picture, rng: (color.jpeg(image, quality), picture)


def far_away(scale: float) -> Corruption:
    """Return a corruption that shows the picture from farther away: smaller, in the middle of a black picture of the same size."""

    def corrupt(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
        width, height = picture.width, picture.height
        matrix = moved(width * (1 - scale) / 2, height * (1 - scale) / 2) @ scaled(scale, scale)
        return _drawn(image, picture, matrix, width, height)

    return corrupt


def rotated(degrees: float) -> Corruption:
    """Return a corruption that rotates the picture by an angle, to either side."""
    return lambda image, picture, rng: _turned(image, picture, degrees if rng.random() < 0.5 else -degrees)


STRENGTHS: Mapping[str, Strengths] = {
    "noise": (noise(12), noise(25), noise(50)),
    "occlusion": (occlusion(0.35), occlusion(0.5), occlusion(0.7)),
    "low light": (low_light(2, 4), low_light(4, 8), low_light(8, 12)),
    "blur": (blur(1 / 400), blur(1 / 200), blur(1 / 100)),
    "jpeg": (jpeg(25), jpeg(10), jpeg(5)),
    "far away": (far_away(0.7), far_away(0.5), far_away(0.35)),
    "rolled": (rotated(10), rotated(20), rotated(40)),
    "turned by a quarter": (rotated(60), rotated(90), rotated(180)),
}
"""The corruptions by name. The middle one is that of `evaluate --robustness`."""

STRENGTH_WORDS: Mapping[str, tuple[str, str, str]] = {
    "noise": ("±12", "±25", "±50"),
    "occlusion": ("12 %", "25 %", "49 %"),
    "low light": ("1/2", "1/4", "1/8"),
    "blur": ("weak", "medium", "strong"),
    "jpeg": ("q 25", "q 10", "q 5"),
    "far away": ("0.7 x", "0.5 x", "0.35 x"),
    "rolled": ("10°", "20°", "40°"),
    "turned by a quarter": ("60°", "90°", "180°"),
}
"""The strengths of `STRENGTHS` in words: gray levels, area of the box, light, quality, size, angle."""

CORRUPTIONS: Mapping[str, Corruption] = {name: strengths[1] for name, strengths in STRENGTHS.items()}


def _turned(image: Image, picture: Picture, degrees: float) -> Corrupted:
    x1, y1, x2, y2 = bounds(turned(degrees), picture.width, picture.height)
    return _drawn(image, picture, moved(-x1, -y1) @ turned(degrees), round(x2 - x1), round(y2 - y1))


def _drawn(image: Image, picture: Picture, matrix: Matrix, width: int, height: int) -> Corrupted:
    canvas = np.zeros((height, width, 3), np.uint8)
    paint(image, picture.width, picture.height, 1, matrix, canvas, (0, 0, width, height))
    return canvas, carry(picture, matrix, width, height)


@dataclass(frozen=True, slots=True)
class Robustness:
    """Evaluations of one network on the same pictures, clean and corrupted.

    Attributes:
        clean: evaluation of the pictures as they are.
        corrupted: evaluations by the name of the corruption.
    """

    clean: Evaluation
    corrupted: Mapping[str, Evaluation]

    def relative(self, name: str) -> float | None:
        """Return the AP under a corruption as a share of the clean AP; None where that is 0."""
        return self.corrupted[name].ap / self.clean.ap if self.clean.ap > 0 else None


def evaluate_robustness(
    model: Path,
    data: Path,
    *,
    groups: Sequence[str] = (),
    input_size: int = 0,
    limit: int = 0,
    refiner: Path | None = None,
    refine_people: int = 0,
    score: float | None = None,
    people: int | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Evaluate a model file as the daemon would run it, on clean and corrupted pictures; arguments and errors as of `evaluate`."""
    pictures = CocoPose([data], cache=False, groups=groups)
    with open_predictor(
        model, input_size=input_size, refiner=refiner, refine_people=refine_people, score=score, people=people
    ) as predictor:
        return under_corruption(predictor, pictures, limit=limit, progress=progress, precision=predictor.precision)


def under_corruption(
    predict: Predict,
    data: CocoPose,
    *,
    corruptions: Mapping[str, Corruption] = CORRUPTIONS,
    limit: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    precision: str = "",
) -> Robustness:
    """Evaluate a network on clean pictures and under each corruption.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB.
        data: labeled pictures.
        corruptions: by name.
        limit: number of pictures, from the first; 0 is all.
        seed: of noise and positions.
        progress: called after all versions of a picture.
        precision: number format, for the report.

    Raises:
        ConfigError: a picture cannot be read, or nobody is labeled.
    """
    count = min(limit, len(data)) if limit else len(data)
    pictures = [data[index] for index in range(count)]
    clean: list[list[Person]] = []
    corrupted: dict[str, list[list[Person]]] = {name: [] for name in corruptions}
    labels: dict[str, list[Picture]] = {name: [] for name in corruptions}
    total = count * (1 + len(corruptions))
    for index, picture in enumerate(pictures):
        image = data.image(index)
        clean.append(predict(image))
        for number, (name, corrupt) in enumerate(corruptions.items()):
            rng = np.random.default_rng((seed, index, number))
            bad, moved_along = corrupt(image, picture, rng)
            corrupted[name].append(predict(bad))
            labels[name].append(moved_along)
        if progress is not None:
            progress((index + 1) * (1 + len(corruptions)), total)
    return Robustness(
        clean=evaluate_predictions(clean, pictures, precision=precision),
        corrupted={name: evaluate_predictions(found, labels[name], precision=precision) for name, found in corrupted.items()},
    )


def under_strengths(
    predict: Predict,
    data: CocoPose,
    name: str,
    *,
    limit: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    precision: str = "",
) -> list[Evaluation]:
    """Evaluate a network under the three strengths of a corruption; the second result is that of `under_corruption`.

    Args:
        predict: finds people in uint8 (H, W, 3) RGB.
        data: labeled pictures.
        name: of the corruption, as in `STRENGTHS`.
        limit, seed, precision: as of `under_corruption`.
        progress: called after each picture.

    Raises:
        ConfigError: a picture cannot be read, or nobody is labeled.
    """
    count, number = min(limit, len(data)) if limit else len(data), list(STRENGTHS).index(name)
    found: list[list[list[Person]]] = [[], [], []]
    labels: list[list[Picture]] = [[], [], []]
    for index in range(count):
        image = data.image(index)
        for strength, corrupt in enumerate(STRENGTHS[name]):
            bad, moved_along = corrupt(image, data[index], np.random.default_rng((seed, index, number)))
            found[strength].append(predict(bad))
            labels[strength].append(moved_along)
        if progress is not None:
            progress(index + 1, count)
    return [evaluate_predictions(people, pictures, precision=precision) for people, pictures in zip(found, labels, strict=True)]
