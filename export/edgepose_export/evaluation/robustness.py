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

ROLL_DEG = 20.0
FAR_SCALE = 0.5


def noise(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Add sensor noise with a standard deviation of 25 gray levels."""
    return color.noise(image, 25, rng), picture


def occlusion(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Cover a random part of each person with a gray rectangle, half as wide and half as high as the box."""
    covered = image.copy()
    for x1, y1, x2, y2 in picture.boxes:
        width, height = (x2 - x1) / 2, (y2 - y1) / 2
        left, top = x1 + rng.random() * width, y1 + rng.random() * height
        covered[round(top) : round(top + height), round(left) : round(left + width)] = 127
    return covered, picture


def low_light(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Reduce gray levels to a quarter, and add the noise of a sensor at high gain (8 gray levels)."""
    return color.noise((image // 4).astype(np.uint8), 8, rng), picture


def blur(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Blur as out of focus: a standard deviation of 1/200 of the long side, 2.5 px of 500."""
    return color.blur(image, max(image.shape[:2]) / 200), picture


def jpeg(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Compress to JPEG of quality 10."""
    return color.jpeg(image, 10), picture


def far_away(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Show the picture from twice the distance: half as large, in the middle of a black picture of the same size."""
    width, height = picture.width, picture.height
    matrix = moved(width * (1 - FAR_SCALE) / 2, height * (1 - FAR_SCALE) / 2) @ scaled(FAR_SCALE, FAR_SCALE)
    return _drawn(image, picture, matrix, width, height)


def rolled(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Roll the camera by 20 degrees, to either side."""
    return _turned(image, picture, ROLL_DEG if rng.random() < 0.5 else -ROLL_DEG)


def turned_by_a_quarter(image: Image, picture: Picture, rng: np.random.Generator) -> Corrupted:
    """Turn the picture by 90 degrees, to either side."""
    return _turned(image, picture, 90.0 if rng.random() < 0.5 else -90.0)


CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": noise,
    "occlusion": occlusion,
    "low light": low_light,
    "blur": blur,
    "jpeg": jpeg,
    "far away": far_away,
    "rolled": rolled,
    "turned by a quarter": turned_by_a_quarter,
}


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
