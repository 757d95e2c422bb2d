"""What light, weather, lens and sensor do to a picture, after it was rendered."""

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Appearance = Literal["clear", "night", "fog", "rain", "thermal"]
LOOKS: tuple[Appearance, ...] = get_args(Appearance)


def put_shadows(image: Image, coverage: Image, strength: float, blur_px: float, tint: float) -> Image:
    """Darken the ground (S, S, 3) where shadows fall (S, S); the light left there is bluer by `tint`."""
    soft = cv2.GaussianBlur(coverage, (0, 0), blur_px) if blur_px > 0.3 else coverage
    return image * (1 - soft[..., None] * strength * np.array([1, 1, 1 - tint], np.float32))


def draw_effects(
    rng: np.random.Generator, image: Image, distance: Image, *, thermal: bool, mild: bool = False, look: Appearance | None = None
) -> NDArray[np.uint8]:
    """Draw weather, light, blur and noise for a picture: uint8 (S, S, 3), RGB.

    Args:
        rng: random numbers.
        image: float32 (S, S, 3), RGB, 0 to 1.
        distance: float32 (S, S), meters to what is seen, infinite in the sky.
        thermal: whether the picture is a thermal one, with its own noise and no weather.
        mild: a quarter as often, so that what is measured is above all the seeing of people.
        look: weather and light of every picture; None draws them.
    """
    often = 0.25 if mild else 1.0
    scale = image.shape[0] / 640
    if thermal or look is not None:
        image = show_look("thermal" if thermal else look or "clear", rng, rng, image, distance)
    else:
        weather = rng.random() / often
        if weather < 0.08:
            image = _fog(rng, image, distance)
        elif weather < 0.14:
            image = _rain(rng, rng, image)
        if rng.random() < 0.08 * often:
            image = _night(rng, rng, image)
    if rng.random() < 0.45 * often:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3) * scale)
    if rng.random() < 0.12 * often:
        image = _motion(rng, image, scale)
    if rng.random() < 0.15 * often:  # small picture, enlarged by somebody
        small = cv2.resize(image, None, fx=(share := rng.uniform(0.4, 0.8)), fy=share, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.15:
        blurred = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = image + (image - blurred) * rng.uniform(0.3, 1.2)  # sharpened by the camera
    image = (image - 0.5) * rng.uniform(0.75, 1.15) + 0.5 + rng.normal(0, 0.03)
    image = image + _noise(rng, image, abs(rng.normal(0, 0.02 * often)))
    return np.asarray(np.clip(image * 255 + 0.5, 0, 255), np.uint8)


def show_look(look: Appearance, steady: np.random.Generator, moment: np.random.Generator, image: Image, distance: Image) -> Image:
    """Return a picture (H, W, 3) in a weather or light.

    Args:
        look: which one.
        steady: random numbers of what lasts: how thick the fog is, where lamps are. The same ones give the frames of one clip.
        moment: random numbers of what every frame has anew: drops, noise.
        image: float32 (H, W, 3), RGB, 0 to 1; for `thermal` with people in their warmth.
        distance: float32 (H, W), meters to what is seen, infinite in the sky.
    """
    if look == "fog":
        return _fog(steady, image, distance)
    if look == "rain":
        return _rain(steady, moment, image)
    if look == "night":
        return _night(steady, moment, image)
    return _thermal(steady, image) if look == "thermal" else image


def finish_frame(steady: np.random.Generator, moment: np.random.Generator, image: Image) -> NDArray[np.uint8]:
    """Return a frame of a clip as its lens and sensor deliver it: uint8 (H, W, 3); arguments as of `show_look`."""
    blurred = cv2.GaussianBlur(image, (0, 0), steady.uniform(0.35, 0.7) * image.shape[1] / 640)
    noisy = blurred + _noise(moment, blurred, steady.uniform(0.006, 0.02))
    return np.asarray(np.clip(noisy * 255 + 0.5, 0, 255), np.uint8)


def _noise(rng: np.random.Generator, image: Image, amount: float) -> Image:
    """Return sensor noise, stronger in dark places."""
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(amount)
    return np.asarray(grain * (1.3 - 0.6 * np.clip(image, 0, 1)), np.float32)


def _fog(rng: np.random.Generator, image: Image, distance: Image) -> Image:
    middle = float(np.median(distance[np.isfinite(distance)])) if np.isfinite(distance).any() else 20.0
    clear = np.exp(-np.minimum(distance, 4 * middle) / (middle * rng.uniform(0.8, 3.0)))[..., None]
    tone = np.array([0.8, 0.82, 0.85], np.float32) * rng.uniform(0.7, 1.1)
    return np.asarray(image * clear + tone * (1 - clear), np.float32)


def _rain(rng: np.random.Generator, moment: np.random.Generator, image: Image) -> Image:
    size = image.shape[1]
    drops = (moment.random(image.shape[:2], np.float32) > 1 - rng.uniform(0.001, 0.006)).astype(np.float32)
    kernel = _line(rng.uniform(5, 25) * size / 640, rng.normal(90, 15))
    streaks = np.clip(cv2.filter2D(drops, -1, kernel * len(kernel) * 0.5), 0, 1)[..., None]
    gray = image.mean() * rng.uniform(0.8, 1.0)
    return np.asarray((image * 0.75 + gray * 0.25) * (1 - 0.5 * streaks) + 0.4 * streaks, np.float32)


def _night(rng: np.random.Generator, moment: np.random.Generator, image: Image) -> Image:
    """Darken a picture, with at most a few lamps."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / width
    light = np.full((height, width), rng.uniform(0.12, 0.45), np.float32)
    for _ in range(int(rng.integers(0, 4))):
        (x, y), reach = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.1, 0.5)
        light += rng.uniform(0.2, 0.6) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / reach**2).astype(np.float32)
    cast = np.array([1.1, 0.95, 0.7] if rng.random() < 0.6 else [0.8, 0.95, 1.1], np.float32)
    dark = np.clip(image, 0, 1) * light[..., None] * cast
    return np.asarray(dark + _noise(moment, dark, rng.uniform(0.01, 0.06)), np.float32)


def _thermal(rng: np.random.Generator, image: Image) -> Image:
    gray = cv2.GaussianBlur(image.mean(2), (0, 0), rng.uniform(0.5, 1.5) * image.shape[1] / 640)
    if rng.random() < 0.15:
        gray = 1 - gray  # black is hot
    width = image.shape[1]
    columns = rng.normal(0, rng.uniform(0, 0.01), (1, width)).astype(np.float32)  # each column of a bolometer has its own offset
    return np.repeat((gray + columns)[..., None], 3, 2)


def cool_ground(rng: np.random.Generator, image: Image) -> Image:
    """Return a photograph as a thermal camera may see that ground: gray, blurred, of little contrast."""
    gray = cv2.GaussianBlur(image.mean(2), (0, 0), rng.uniform(1, 4) * image.shape[1] / 640)
    flat = (gray - gray.mean()) * rng.uniform(0.2, 0.8) * rng.choice([1, -1]) + rng.uniform(0.15, 0.5)
    return np.repeat(np.clip(flat, 0, 1)[..., None], 3, 2).astype(np.float32)


def _motion(rng: np.random.Generator, image: Image, scale: float) -> Image:
    return np.asarray(
        cv2.filter2D(image, -1, _line(rng.uniform(2, 7) * scale, rng.uniform(0, 180)), borderType=cv2.BORDER_REFLECT), np.float32
    )


def _line(length: float, degrees: float) -> Image:
    """Return a kernel that smears along a line; its sum is 1."""
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    along = np.linspace(-length / 2, length / 2, 4 * side)
    x, y = along * np.cos(np.radians(degrees)) + side // 2, along * np.sin(np.radians(degrees)) + side // 2
    np.add.at(kernel, (np.clip(np.round(y), 0, side - 1).astype(int), np.clip(np.round(x), 0, side - 1).astype(int)), 1)
    return np.asarray(kernel / kernel.sum(), np.float32)
