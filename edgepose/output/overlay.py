"""Overlay of people on an image: skeleton and box in the color of the track, with track number and score, at any resolution."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.person import HEAD_KEYPOINTS, SKELETON, Person
from edgepose.tile import TileLook

Color = tuple[int, int, int]

_SHIFT = 4  # fractional bits of coordinates: OpenCV draws at 1/16 pixel
_FONT = cv2.FONT_HERSHEY_DUPLEX
_GOLDEN_ANGLE = 0.381966  # golden angle as a share of a full turn: the hues of neighboring numbers are far apart
_FIRST_HUE = 0.45
_DARK: Color = (16, 18, 22)
_WHITE: Color = (255, 255, 255)
_SHARED = 0.14  # of a tile's sides, on each side: what a neighbor shows, too


def draw(
    image: NDArray[np.uint8],
    people: Sequence[Person],
    *,
    keypoint_threshold: float = 0.2,
    caption: str | None = None,
    looks: Sequence[TileLook] = (),
) -> NDArray[np.uint8]:
    """Return a copy of an image with people drawn on it.

    Args:
        image: uint8 (H, W, 3), RGB; it does not change.
        people: in pixels of the image, drawn by rising score.
        keypoint_threshold: confidence below which a keypoint and its bones are not drawn.
        caption: ASCII text for the top-left corner, such as camera, frames per second and time.
        looks: tiles to frame, bright where just visited, with the ages of their visits.
    """
    canvas: NDArray[np.uint8] = image.copy()
    # A 640 x 480 image gets lines of two pixels.
    unit = max(1.0, float(np.sqrt(image.shape[0] * image.shape[1])) / 277)
    for look in sorted(looks, key=lambda look: -look.age_s):  # what was just visited is on top
        _draw_look(canvas, look, unit)
    by_rising_score = sorted(enumerate(people), key=lambda pair: pair[1].score)
    for draw_part in (_draw_pose, _draw_label):  # labels last, so that no limb hides them
        for index, person in by_rising_score:
            draw_part(canvas, person, color(index if person.track is None else person.track), unit, keypoint_threshold)
    if caption:
        _label(canvas, caption, (0.0, 0.0), unit, _DARK, _WHITE, opacity=0.65)
    return canvas


def color(number: int) -> Color:
    """Return the color (RGB) of a track number."""
    hue = (_FIRST_HUE + number * _GOLDEN_ANGLE) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_look(canvas: NDArray[np.uint8], look: TileLook, unit: float) -> None:
    """Draw a tile without what it shares with its neighbors, and the age of its last visit in the corner."""
    tile = look.tile
    across, down = _SHARED * (tile.right - tile.left), _SHARED * (tile.bottom - tile.top)
    corner, opposite = (tile.left + across, tile.top + down), (tile.right - across, tile.bottom - down)
    gray = round(255 / (1 + 3 * min(look.age_s, 1000.0)))
    thickness = max(1, round(0.6 * unit)) if look.age_s <= 0 else 1
    cv2.rectangle(canvas, _fixed(*corner), _fixed(*opposite), (gray, gray, gray), thickness, cv2.LINE_AA, _SHIFT)
    if look.age_s > 0:
        text = f"{look.age_s:.1f} s" if look.age_s < 1000 else "never"
        _label(canvas, text, corner, 0.5 * unit, _DARK, _WHITE, opacity=0.4)


def _draw_pose(canvas: NDArray[np.uint8], person: Person, base: Color, unit: float, threshold: float) -> None:
    # Smaller people get thinner lines, so that their skeletons stay recognizable.
    left, top, right, bottom = (float(value) for value in person.box)
    width = float(np.clip(_size(person) / 55, 0.5 * unit, 1.5 * unit))
    cv2.rectangle(canvas, _fixed(left, top), _fixed(right, bottom), base, max(1, round(0.5 * unit)), cv2.LINE_AA, _SHIFT)

    visible = (person.keypoints[:, 2] >= threshold) & np.isfinite(person.keypoints).all(axis=1)
    bones = [(a, b) for a, b in SKELETON if visible[a] and visible[b]]
    # A dark outline under the color keeps the skeleton readable on snow and at night.
    for outline in (True, False):
        for a, b in bones:
            (ax, ay, _), (bx, by, _) = person.keypoints[a].tolist(), person.keypoints[b].tolist()
            thin = 0.6 if a in HEAD_KEYPOINTS and b in HEAD_KEYPOINTS else 1.0
            thickness = max(1, round(thin * 2 * width)) + (2 * max(1, round(0.35 * width)) if outline else 0)
            cv2.line(canvas, _fixed(ax, ay), _fixed(bx, by), _DARK if outline else _side(base, a, b), thickness, cv2.LINE_AA, _SHIFT)
    for index in np.flatnonzero(visible):
        x, y, _ = person.keypoints[index].tolist()
        radius = (1.0 if index in HEAD_KEYPOINTS else 1.5) * width
        _disc(canvas, x, y, radius + max(1.0, 0.35 * width), _DARK)
        _disc(canvas, x, y, radius, _WHITE if index in HEAD_KEYPOINTS else _side(base, int(index), int(index)))


def _draw_label(canvas: NDArray[np.uint8], person: Person, base: Color, unit: float, _threshold: float) -> None:
    corner = float(person.box[0]), float(person.box[1])
    text = f"{person.score:.2f}" if person.track is None else f"#{person.track} {person.score:.2f}"
    _label(canvas, text, corner, float(np.clip(_size(person) / 60, 0.75 * unit, unit)), base, _DARK, above=True, opacity=0.9)


def _size(person: Person) -> float:
    left, top, right, bottom = (float(value) for value in person.box)
    return float(np.sqrt(max((right - left) * (bottom - top), 1.0)))


def _side(base: Color, a: int, b: int) -> Color:
    """Return the color of a bone: lighter for left keypoints (odd numbers), darker for right ones, unchanged between both sides."""
    if a % 2 != b % 2 or a == 0:
        return base
    mixed = _WHITE if a % 2 else (0, 0, 0)
    share = 0.45 if a % 2 else 0.2
    red, green, blue = (round(value + (other - value) * share) for value, other in zip(base, mixed, strict=True))
    return red, green, blue


def _label(
    canvas: NDArray[np.uint8],
    text: str,
    corner: tuple[float, float],
    unit: float,
    background: Color,
    foreground: Color,
    *,
    above: bool = False,
    opacity: float,
) -> None:
    scale = max(0.35, 0.22 * unit)
    thickness = max(1, round(0.45 * unit)) if scale > 0.6 else 1
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(2, round(1.6 * unit))
    width, height = text_width + 2 * pad, text_height + baseline + 2 * pad
    x = int(np.clip(round(corner[0]), 0, max(0, canvas.shape[1] - width)))
    y = int(np.clip(round(corner[1]) - (height if above else 0), 0, max(0, canvas.shape[0] - height)))
    background_area = canvas[y : y + height, x : x + width]
    background_area[:] = np.round(background_area * (1 - opacity) + np.array(background) * opacity).astype(np.uint8)
    cv2.putText(canvas, text, (x + pad, y + pad + text_height), _FONT, scale, foreground, thickness, cv2.LINE_AA)


def _disc(canvas: NDArray[np.uint8], x: float, y: float, radius: float, paint: Color) -> None:
    cv2.circle(canvas, _fixed(x, y), round(radius * 2**_SHIFT), paint, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _fixed(x: float, y: float) -> tuple[int, int]:
    """Return fixed-point OpenCV coordinates, limited to int16.

    OpenCV measures from the center of the first pixel, edgepose from its corner.
    """
    limit = 2**15 - 1
    return round(min(max(x - 0.5, -limit), limit) * 2**_SHIFT), round(min(max(y - 0.5, -limit), limit) * 2**_SHIFT)
