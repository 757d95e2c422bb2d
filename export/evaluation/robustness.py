"""How much a network loses when the picture is bad: the paper's section X (noise, occlusion, light) and two more."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person
from export.data import colour
from export.data.coco import CocoPose, Picture
from export.evaluation.coco import Evaluation, Predict, Progress, evaluate_predictions

Image = NDArray[np.uint8]
Corruption = Callable[[Image, Picture, np.random.Generator], Image]


def noise(image: Image, picture: Picture, rng: np.random.Generator) -> Image:
    """Sensor noise with a standard deviation of 25 grey levels."""
    return colour.noise(image, 25, rng)


def occlusion(image: Image, picture: Picture, rng: np.random.Generator) -> Image:
    """A grey rectangle over each person, half as wide and half as high as the box, somewhere in it."""
    covered = image.copy()
    for x1, y1, x2, y2 in picture.boxes:
        width, height = (x2 - x1) / 2, (y2 - y1) / 2
        left, top = x1 + rng.random() * width, y1 + rng.random() * height
        covered[round(top) : round(top + height), round(left) : round(left + width)] = 127
    return covered


def low_light(image: Image, picture: Picture, rng: np.random.Generator) -> Image:
    """A quarter of the light (in grey levels), and the noise of a sensor that is turned up (8 grey levels)."""
    return colour.noise((image // 4).astype(np.uint8), 8, rng)


def blur(image: Image, picture: Picture, rng: np.random.Generator) -> Image:
    """Out of focus: a standard deviation of 1/200 of the long side, 2.5 px of 500."""
    return colour.blur(image, max(image.shape[:2]) / 200)


def jpeg(image: Image, picture: Picture, rng: np.random.Generator) -> Image:
    """JPEG of quality 10."""
    return colour.jpeg(image, 10)


CORRUPTIONS: Mapping[str, Corruption] = {"noise": noise, "occlusion": occlusion, "low light": low_light, "blur": blur, "jpeg": jpeg}


@dataclass(frozen=True, slots=True)
class Robustness:
    """Evaluations of one network on the same pictures, whole and spoilt.

    Attributes:
        clean: the pictures as they are.
        corrupted: by the name of the corruption.
    """

    clean: Evaluation
    corrupted: Mapping[str, Evaluation]

    def relative(self, name: str) -> float | None:
        """AP under a corruption as a share of the clean one; None where that is 0."""
        return self.corrupted[name].ap / self.clean.ap if self.clean.ap > 0 else None


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
        data: labelled pictures.
        corruptions: by name.
        limit: only the first pictures; 0 is all.
        seed: of noise and places.
        progress: told after each picture of each kind.
        precision: number format, for the report.

    Raises:
        ConfigError: a picture cannot be read, or nobody is labelled.
    """
    count = min(limit, len(data)) if limit else len(data)
    pictures = [data[index] for index in range(count)]
    clean: list[list[Person]] = []
    spoilt: dict[str, list[list[Person]]] = {name: [] for name in corruptions}
    total = count * (1 + len(corruptions))
    for index, picture in enumerate(pictures):
        image = data.image(index)
        clean.append(predict(image))
        for number, (name, corrupt) in enumerate(corruptions.items()):
            rng = np.random.default_rng((seed, index, number))
            spoilt[name].append(predict(corrupt(image, picture, rng)))
        if progress is not None:
            progress((index + 1) * (1 + len(corruptions)), total)
    return Robustness(
        clean=evaluate_predictions(clean, pictures, precision=precision),
        corrupted={name: evaluate_predictions(found, pictures, precision=precision) for name, found in spoilt.items()},
    )
