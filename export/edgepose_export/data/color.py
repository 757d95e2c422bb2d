"""Light, lens, sensor and compression: changes of a picture that do not move its labels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LUMA = np.array((0.299, 0.587, 0.114))  # ITU-R BT.601, as JPEG


@dataclass(frozen=True, slots=True, eq=False)
class Appearance:
    """Changes of one picture by light, lens, sensor and compression; None changes nothing.

    Attributes:
        blur_px: standard deviation of the blur of a lens out of focus.
        motion_blur: length in pixels and direction in degrees of a smear.
        matrix: light and color, see `color_matrix`.
        gamma: exponent of the response.
        noise: standard deviation in gray levels of 255, and a seed.
        jpeg_quality: 0 to 100.
    """

    blur_px: float | None = None
    motion_blur: tuple[float, float] | None = None
    matrix: NDArray[np.float64] | None = None
    gamma: float | None = None
    noise: tuple[float, int] | None = None
    jpeg_quality: int | None = None


def change(image: Image, appearance: Appearance) -> Image:
    """Apply an appearance, in the order in which its parts act in a camera."""
    if appearance.blur_px is not None:
        image = blur(image, appearance.blur_px)
    if appearance.motion_blur is not None:
        image = motion_blur(image, *appearance.motion_blur)
    if appearance.matrix is not None:
        image = recolor(image, appearance.matrix)
    if appearance.gamma is not None:
        image = gamma(image, appearance.gamma)
    if appearance.noise is not None:
        sigma, seed = appearance.noise
        image = noise(image, sigma, np.random.default_rng(seed))
    if appearance.jpeg_quality is not None:
        image = jpeg(image, appearance.jpeg_quality)
    return image


def color_matrix(brightness: float, contrast: float, saturation: float, tint: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one (3, 4) matrix for light and color, on 0..255.

    Args:
        brightness: added to the picture, share of full white.
        contrast: factor about mid gray.
        saturation: factor of the distance to gray; 0 is a gray picture.
        tint: factor per channel (3,): the color of the light.
    """
    matrix = np.empty((3, 4))
    linear = (1 - saturation) * np.tile(_LUMA, (3, 1)) + saturation * np.eye(3)
    matrix[:, :3] = contrast * linear * tint
    matrix[:, 3] = 127.5 * (1 - contrast) + 255 * brightness
    return matrix


def recolor(image: Image, matrix: NDArray[np.float64]) -> Image:
    """Apply a color matrix."""
    out: Image = cv2.transform(image, matrix)
    return out


def gamma(image: Image, exponent: float) -> Image:
    """Apply a response curve; an exponent above 1 is darker."""
    table = (255 * (np.arange(256) / 255) ** exponent).round().astype(np.uint8)
    out: Image = cv2.LUT(image, table)
    return out


def blur(image: Image, sigma_px: float) -> Image:
    """Blur as a lens out of focus does."""
    out: Image = cv2.GaussianBlur(image, (0, 0), sigma_px)
    return out


def motion_blur(image: Image, length_px: float, degrees: float) -> Image:
    """Blur along a line, as motion of camera or person during exposure does."""
    size = 2 * int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    reach = np.array((np.cos(np.radians(degrees)), np.sin(np.radians(degrees)))) * length_px / 2
    start, end = ((middle - reach) * 16).round().astype(int), ((middle + reach) * 16).round().astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0, 1, cv2.LINE_AA, 4)  # 4: coordinates in 1/16 pixel
    out: Image = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return out


def noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Add sensor noise; `sigma` is its standard deviation in gray levels.

    The sum of two uniform bytes is close enough to a bell curve, and ten times faster than a normal distribution.
    """
    grains = rng.integers(0, 256, (2, *image.shape), np.uint8)
    both = cv2.add(grains[0], grains[1], dtype=cv2.CV_16S)  # 0..510, standard deviation 104.5
    out: Image = cv2.addWeighted(both, sigma / 104.5, image, 1.0, -255 * sigma / 104.5, dtype=cv2.CV_8U)
    return out


def jpeg(image: Image, quality: int) -> Image:
    """Compress to JPEG and decode again."""
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))
    out = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert out is not None, "a picture that was just encoded"
    return np.asarray(out, np.uint8)
