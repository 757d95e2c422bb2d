"""Augmentation: from a labeled picture to a new one with other geometry, light and sensor."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgepose_export.data import color, warp
from edgepose_export.data.coco import CocoPose, Picture, sample_labels

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Amounts by which pictures change; each value has its reason beside it. Probabilities are 0 to 1, intervals lowest and highest."""

    flip: float = 0.5  # the world has no handedness; left and right keypoints swap
    scale: Interval = (0.75, 1.7)  # of the fitted picture: people appear at all distances
    zoom_out: float = 0.1  # probability of a distant picture: networks of this size fail on small people
    zoom_out_scale: Interval = (0.25, 0.7)
    rotate: float = 0.4  # a drone and a hand-held camera roll
    rotate_degrees: float = 25.0
    turn: float = 0.03  # probability of any angle: from above, a person can lie in any direction
    tilt: float = 0.2  # probability of an oblique view, from any side
    tilt_degrees: float = 40.0
    overhead: float = 0.1  # probability of a view from above: large heads, foreshortened bodies, small feet
    overhead_degrees: Interval = (25.0, 55.0)
    outside: float = 0.15  # share of the picture that may lie over the edge: people are cut at every limb
    top_left: float = 0.3  # probability that the picture lies at the top left, as letterboxed frames do in flight
    mosaic: float = 0.3  # probability of four pictures in one: many people, many sizes, no padding
    mosaic_scale: Interval = (1.0, 2.2)  # of the picture fitted into its tile
    own_resolution: bool = False  # cut large pictures at up to their own resolution: fitted ones show small people too small
    light: float = 0.8  # probability that light and color change at all
    brightness: float = 0.12  # clouds and exposure: share of full white, either way
    contrast: Interval = (0.7, 1.3)  # haze, back light
    saturation: Interval = (0.3, 1.5)  # cheap sensors
    tint: float = 0.08  # white balance: per channel, either way
    gamma: Interval = (0.7, 1.6)  # shade and night
    gray: float = 0.05  # probability of no color: infrared cameras, and the pose is in the shape
    blur: float = 0.08  # probability of a picture out of focus
    blur_px: Interval = (0.4, 1.6)  # standard deviation
    motion_blur: float = 0.06  # probability that camera or person moves during exposure
    motion_blur_px: Interval = (2.0, 7.0)  # length of the smear
    noise: float = 0.1  # probability of a noisy sensor
    noise_levels: Interval = (3.0, 18.0)  # standard deviation in gray levels of 255
    dark: float = 0.0  # probability of hardly any light: night
    dark_light: Interval = (0.15, 0.5)  # share of the light that remains
    dark_noise_levels: Interval = (2.0, 12.0)  # a sensor at high gain
    cover: float = 0.0  # probability that something hides a part of the person in a crop: furniture, a wall, another person
    cover_share: Interval = (0.25, 0.6)  # of the width and of the height of the person's box
    jpeg: float = 0.1  # probability of strong compression: video streams
    jpeg_quality: Interval = (20, 70)
    smallest_person_px: float = 8.0  # a person whose long side falls below this is an ignore region
    least_visible: float = 0.3  # a person with less than this share of the box inside is an ignore region

    @staticmethod
    def none() -> "Augmentation":
        """Return plain letterboxing, as in flight: fitted, at the top left, black padding at the right and bottom."""
        return Augmentation(
            flip=0, scale=(1, 1), zoom_out=0, rotate=0, turn=0, tilt=0, overhead=0, outside=0, top_left=1, mosaic=0,
            light=0, gray=0, blur=0, motion_blur=0, noise=0, dark=0, cover=0, jpeg=0, smallest_person_px=0, least_visible=0,
        )  # fmt: skip

    def without_color(self) -> "Augmentation":
        """Return the same geometry with unchanged pixels."""
        return replace(self, light=0, gray=0, blur=0, motion_blur=0, noise=0, dark=0, jpeg=0)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture to train on.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: in pixels of `image`.
    """

    image: NDArray[np.uint8]
    labels: warp.Labels


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One picture in a plan.

    Attributes:
        index: index of the picture.
        rectangle: part of the canvas that shows it.
        matrix: maps the whole picture to the canvas.
        appearance: light, lens, sensor and compression; they act on the picture, not on the black padding around it.
    """

    index: int
    rectangle: warp.Rectangle
    matrix: warp.Matrix
    appearance: color.Appearance


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """A rectangle that hides what lies below it.

    Attributes:
        rectangle: part of the canvas.
        color: RGB.
        part: a picture drawn into the rectangle, over the color; None leaves the color.
    """

    rectangle: warp.Rectangle
    color: tuple[int, int, int]
    part: Part | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PicturePlan:
    """All random choices for one training picture, made before any pixel is computed.

    Attributes:
        parts: one picture, or the four of a mosaic.
        labels: in pixels of the canvas.
        covers: painted last.
    """

    parts: tuple[Part, ...]
    labels: warp.Labels
    covers: tuple[Cover, ...] = ()


def sample(data: CocoPose, index: int, size: warp.Canvas, augmentation: Augmentation, rng: np.random.Generator) -> Sample:
    """Make one training picture: plan it, then paint it.

    Raises:
        ConfigError: a picture cannot be read.
    """
    made = plan(data, index, size, augmentation, rng)
    return Sample(paint(data, made, size), made.labels)


def plan(data: CocoPose, index: int, size: warp.Canvas, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
    """Choose how to make one training picture; a mosaic takes three more random pictures of `data`.

    Args:
        data: labeled pictures.
        index: index of the picture.
        size: of the canvas.
        augmentation: how much pictures change.
        rng: the only source of randomness: the same state gives the same plan.
    """
    height, width = warp.canvas_sides(size)
    if rng.random() >= augmentation.mosaic:
        scale = augmentation.zoom_out_scale if rng.random() < augmentation.zoom_out else augmentation.scale
        part, labels = _place(data, index, (0, 0, width, height), augmentation, _reach(data[index], size, augmentation, scale), rng)
        return PicturePlan((part,), labels)
    share_x, share_y = rng.uniform(0.3, 0.7, 2)
    x, y = int(width * share_x), int(height * share_y)
    indices = [index, *rng.integers(len(data), size=3).tolist()]
    rectangles = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    placed = [
        _place(data, int(which), rectangle, augmentation, _reach(data[int(which)], size, augmentation, augmentation.mosaic_scale), rng)
        for which, rectangle in zip(rng.permutation(indices), rectangles, strict=True)
    ]
    return PicturePlan(
        tuple(part for part, _ in placed),
        warp.Labels(
            boxes=np.concatenate([labels.boxes for _, labels in placed]),
            keypoints=np.concatenate([labels.keypoints for _, labels in placed]),
            areas=np.concatenate([labels.areas for _, labels in placed]),
            ignored=np.concatenate([labels.ignored for _, labels in placed]),
        ),
    )


def _reach(picture: Picture, size: warp.Canvas, augmentation: Augmentation, scale: Interval) -> Interval:
    """Extend an interval of scales, so that a picture larger than the canvas is shown at up to its own resolution too."""
    height, width = warp.canvas_sides(size)
    largest = min(width / picture.width, height / picture.height) * augmentation.scale[1]
    return (scale[0], scale[1] / min(largest, 1.0)) if augmentation.own_resolution else scale


class PicturePlans:
    """Plans of whole pictures, one per picture."""

    def __init__(self, data: CocoPose) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def picture(self, index: int) -> int:
        """Return the picture of a plan."""
        return index

    def plan(self, index: int, size: warp.Canvas, augmentation: Augmentation, rng: np.random.Generator) -> PicturePlan:
        """Plan one picture; see the function `plan`."""
        return plan(self._data, index, size, augmentation, rng)


def paint(data: CocoPose, made: PicturePlan, size: warp.Canvas) -> NDArray[np.uint8]:
    """Paint a plan for pictures of `size`: uint8 (H, W, 3), RGB.

    Raises:
        ConfigError: a picture cannot be read.
    """
    canvas = np.zeros((*warp.canvas_sides(size), 3), np.uint8)
    for part in made.parts:
        _paint_part(data, part, canvas)
    for cover in made.covers:
        x1, y1, x2, y2 = cover.rectangle
        canvas[y1:y2, x1:x2] = cover.color
        if cover.part is not None:
            _paint_part(data, cover.part, canvas)
    return canvas


def _paint_part(data: CocoPose, part: Part, canvas: NDArray[np.uint8]) -> None:
    """Paint one picture into its rectangle of the canvas."""
    picture = data[part.index]
    shrink = warp.coarsest_shrink(warp.magnification(part.matrix, picture.width, picture.height))
    image = color.change(data.image(part.index, shrink), part.appearance)
    warp.paint(image, picture.width, picture.height, shrink, part.matrix, canvas, part.rectangle)


def _place(
    data: CocoPose, index: int, rectangle: warp.Rectangle, augmentation: Augmentation, scale: Interval, rng: np.random.Generator
) -> tuple[Part, warp.Labels]:
    """Choose how one picture is placed in a rectangle of the canvas; its labels follow."""
    picture = sample_labels(data[index], rng)
    mirrored = bool(rng.random() < augmentation.flip)
    matrix = _matrix(picture, rectangle, mirrored, augmentation, _logarithmic(scale, rng), rng)
    labels = warp.follow(picture, matrix, mirrored, rectangle, augmentation.smallest_person_px, augmentation.least_visible)
    return Part(index, rectangle, matrix, choose_appearance(augmentation, rng)), labels


def _matrix(
    picture: Picture, rectangle: warp.Rectangle, mirrored: bool, augmentation: Augmentation, scale: float, rng: np.random.Generator
) -> warp.Matrix:
    """Choose the matrix from a picture to the canvas."""
    x1, y1, x2, y2 = rectangle
    fit = min((x2 - x1) / picture.width, (y2 - y1) / picture.height) * scale
    # Whole pixels, as in the runtime's letterbox.
    fitted = max(1, round(picture.width * fit)), max(1, round(picture.height * fit))
    long_side = max(fitted)
    matrix = warp.moved(-fitted[0] / 2, -fitted[1] / 2) @ warp.scaled(fitted[0] / picture.width, fitted[1] / picture.height)
    if mirrored:
        matrix = warp.scaled(-1, 1) @ matrix
    chance = rng.random(4)
    if chance[0] < augmentation.overhead:
        pitch, yaw = rng.uniform(*augmentation.overhead_degrees), rng.uniform(-10, 10)
        matrix = warp.tilted(pitch, yaw, rng.uniform(1.2, 2.0) * long_side) @ matrix
    elif chance[0] < augmentation.overhead + augmentation.tilt:
        pitch, yaw = rng.uniform(-augmentation.tilt_degrees, augmentation.tilt_degrees, 2)
        matrix = warp.tilted(pitch, yaw, rng.uniform(1.2, 2.5) * long_side) @ matrix
    if chance[1] < augmentation.turn:
        matrix = warp.turned(rng.uniform(-180, 180)) @ matrix
    elif chance[1] < augmentation.turn + augmentation.rotate:
        matrix = warp.turned(rng.uniform(-augmentation.rotate_degrees, augmentation.rotate_degrees)) @ matrix

    left, top, right, bottom = warp.bounds(matrix, picture.width, picture.height)
    if chance[2] < augmentation.top_left:
        return warp.moved(x1 - left, y1 - top) @ matrix
    anchor = None
    if len(picture.boxes):
        box = picture.boxes[int(chance[3] * len(picture.boxes))].astype(np.float64)
        anchor = warp.project(matrix, (box[:2] + box[2:]) / 2)
    shift_x = _shift(left, right, x1, x2, augmentation.outside, None if anchor is None else float(anchor[0]), rng)
    shift_y = _shift(top, bottom, y1, y2, augmentation.outside, None if anchor is None else float(anchor[1]), rng)
    return warp.moved(shift_x, shift_y) @ matrix


def _shift(low: float, high: float, start: int, end: int, outside: float, anchor: float | None, rng: np.random.Generator) -> float:
    """Choose how far to move the span low..high along one axis of the rectangle start..end.

    A span that fits stays inside, except for the share `outside`; a longer one fills the rectangle, except for that share of
    it. The anchor (the middle of a person) stays inside, because a crop without people teaches little.
    """
    slack = outside * min(high - low, end - start)
    first, last = sorted((start - low, end - high))
    first, last = first - slack, last + slack
    if anchor is not None:
        margin = 0.1 * (end - start)
        first, last = max(first, start + margin - anchor), min(last, end - margin - anchor)
    return float(rng.uniform(first, last)) if first < last else (first + last) / 2


def choose_appearance(a: Augmentation, rng: np.random.Generator) -> color.Appearance:
    """Choose light, lens, sensor and compression."""
    light, gray, smear, unfocused, grain, compressed = rng.random(6)
    blur = rng.uniform(*a.blur_px) if unfocused < a.blur else None
    motion_blur = (rng.uniform(*a.motion_blur_px), rng.uniform(0, 180)) if smear < a.motion_blur else None
    matrix = gamma = None
    if light < a.light or gray < a.gray:
        if light < a.light:
            tint = 1 + rng.uniform(-a.tint, a.tint, 3)
            values = rng.uniform(-a.brightness, a.brightness), rng.uniform(*a.contrast), rng.uniform(*a.saturation)
        else:
            tint, values = np.ones(3), (0.0, 1.0, 1.0)
        brightness, contrast, saturation = values
        matrix = color.color_matrix(brightness, contrast, 0.0 if gray < a.gray else saturation, tint)
        if light < a.light / 2:  # only half of the times: the table costs as much as the matrix
            gamma = _logarithmic(a.gamma, rng)
    # A seed of its own: the number of noise values must not change the later random choices.
    noise = (rng.uniform(*a.noise_levels), int(rng.integers(2**63))) if grain < a.noise else None
    if a.dark and rng.random() < a.dark:
        matrix = rng.uniform(*a.dark_light) * (np.eye(3, 4) if matrix is None else matrix)
        noise = rng.uniform(*a.dark_noise_levels), int(rng.integers(2**63))
    jpeg_quality = round(rng.uniform(*a.jpeg_quality)) if compressed < a.jpeg else None
    return color.Appearance(blur, motion_blur, matrix, gamma, noise, jpeg_quality)


def _logarithmic(span: Interval, rng: np.random.Generator) -> float:
    """Draw from an interval so that twice and half of a value are equally likely."""
    return float(np.exp(rng.uniform(np.log(span[0]), np.log(span[1]))))
