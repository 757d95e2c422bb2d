"""The geometry of augmentation: a 3x3 matrix moves a picture, and its labels follow.

A matrix maps continuous source pixels to continuous target pixels; (0, 0) is the top-left corner of the top-left pixel, as
everywhere in edgepose. OpenCV counts from the middle of that pixel; only `paint` converts.
"""

from dataclasses import dataclass, replace
from math import ceil, cos, radians, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.person import FLIP_PAIRS
from edgepose_export.data.coco import Picture

Matrix = NDArray[np.float64]
Rectangle = tuple[int, int, int, int]
"""x1 y1 x2 y2, whole pixels of the target."""


def _mirror_order() -> NDArray[np.intp]:
    order = np.arange(17)
    for left, right in FLIP_PAIRS:
        order[[left, right]] = right, left
    return order


MIRROR_ORDER = _mirror_order()
"""The keypoint that becomes number i in a mirror image."""

# A person fills the ellipse inside the box, not its corners. After a rotation, the bounds of the ellipse are a much better box
# than those of the corners, which grow by up to 41 % (A. Kalra et al., "Towards Rotation Invariance in Object Detection",
# ICCV 2021). 16 points include the four extremes, so an upright box does not change.
_ANGLES = np.arange(16) * (np.pi / 8)
_ELLIPSE = np.stack((0.5 + 0.5 * np.cos(_ANGLES), 0.5 + 0.5 * np.sin(_ANGLES)), 1)  # (16, 2) in a unit box
_ELLIPSE_AREA = float(8 * 0.5**2 * np.sin(np.pi / 8))  # of the 16-sided polygon
_CORNERS = np.array(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


def moved(x: float, y: float) -> Matrix:
    """Return the matrix of a shift by (x, y) pixels."""
    return np.array(((1.0, 0.0, x), (0.0, 1.0, y), (0.0, 0.0, 1.0)))


def scaled(x: float, y: float) -> Matrix:
    """Return the matrix of a scaling about the origin."""
    return np.array(((x, 0.0, 0.0), (0.0, y, 0.0), (0.0, 0.0, 1.0)))


def turned(degrees: float) -> Matrix:
    """Return the matrix of a rotation about the origin, clockwise in the picture."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return np.array(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))


def tilted(pitch_degrees: float, yaw_degrees: float, distance: float) -> Matrix:
    """Return the matrix that shows the picture as a tilted plane in front of a pinhole camera.

    Args:
        pitch_degrees: above 0 the upper edge comes nearer and the lower one recedes, as in a view of people from above.
        yaw_degrees: above 0 the left edge comes nearer.
        distance: of the camera from the middle of the plane (the origin), in pixels of the plane.
    """
    cp, sp = cos(radians(pitch_degrees)), sin(radians(pitch_degrees))
    cy, sy = cos(radians(yaw_degrees)), sin(radians(yaw_degrees))
    return np.array(((cy, 0.0, 0.0), (-sp * sy, cp, 0.0), (cp * sy / distance, sp / distance, 1.0)))


def project(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points (..., 2)."""
    mapped: NDArray[np.float64] = points @ matrix[:2, :2].T + matrix[:2, 2]
    if matrix[2, 0] or matrix[2, 1]:
        mapped /= (points @ matrix[2, :2] + matrix[2, 2])[..., None]
    return mapped


def bounds(matrix: Matrix, width: float, height: float) -> tuple[float, float, float, float]:
    """Return the bounding box x1 y1 x2 y2 of a mapped picture."""
    corners = project(matrix, _CORNERS * (width, height))
    x1, y1 = corners.min(0)
    x2, y2 = corners.max(0)
    return float(x1), float(y1), float(x2), float(y2)


def magnification(matrix: Matrix, width: float, height: float) -> float:
    """Return the enlargement at the middle of a picture: the square root of the change of area there."""
    depth = matrix[2, 0] * width / 2 + matrix[2, 1] * height / 2 + matrix[2, 2]
    return float(abs(np.linalg.det(matrix) / depth**3) ** 0.5)


def coarsest_shrink(enlargement: float) -> int:
    """Return the largest shrink (1, 2, 4 or 8) at which a picture can be decoded that is then drawn with this enlargement."""
    return next((step for step in (8, 4, 2) if enlargement * step <= 1.1), 1)


def paint(
    image: NDArray[np.uint8],
    picture_width: int,
    picture_height: int,
    shrink: int,
    matrix: Matrix,
    canvas: NDArray[np.uint8],
    rectangle: Rectangle,
) -> None:
    """Draw a picture through a matrix into a rectangle of the canvas; uncovered pixels become black.

    Args:
        image: uint8 (h, w, 3), the picture decoded at 1 / `shrink` of its size.
        picture_width: of the whole picture, in pixels.
        picture_height: of the whole picture, in pixels.
        shrink: see `CocoPose.image`.
        matrix: maps the whole picture to the canvas.
        canvas: uint8 (S, S, 3); written.
        rectangle: part of the canvas.
    """
    height, width = image.shape[:2]
    # A shrunk JPEG rounds its size up (pixels stay `shrink` wide); other formats round it down (pixels grow slightly).
    step_x = shrink if width == ceil(picture_width / shrink) else picture_width / width
    step_y = shrink if height == ceil(picture_height / shrink) else picture_height / height
    x1, y1, x2, y2 = rectangle
    whole = moved(-x1 - 0.5, -y1 - 0.5) @ matrix @ scaled(step_x, step_y) @ moved(0.5, 0.5)
    target = canvas[y1:y2, x1:x2]
    if whole[2, 0] or whole[2, 1]:
        cv2.warpPerspective(image, whole, (x2 - x1, y2 - y1), dst=target, flags=cv2.INTER_LINEAR)
    else:
        cv2.warpAffine(image, whole[:2] / whole[2, 2], (x2 - x1, y2 - y1), dst=target, flags=cv2.INTER_LINEAR)


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels in canvas pixels.

    Attributes:
        boxes: float32 (P, 4), x1 y1 x2 y2.
        keypoints: float32 (P, 17, 3), x y v; all 0 where not labeled or outside.
        areas: float32 (P,), px².
        ignored: float32 (I, 4), x1 y1 x2 y2 of ignore regions.
    """

    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float32]
    ignored: NDArray[np.float32]


def follow(
    picture: Picture, matrix: Matrix, mirrored: bool, rectangle: Rectangle, smallest_person_px: float, least_visible: float
) -> Labels:
    """Map the labels of a picture as its pixels are mapped.

    A person's box becomes the bounds of the warped ellipse inside it and of the warped keypoints, clipped by the rectangle.
    People who become too small, lie mostly outside or lose all their labeled keypoints become ignore regions; a person who has
    only a box stays a person. A picture in which not all people are labeled is one large ignore region (labeled people inside it
    still count).

    Args:
        picture: labels in source pixels.
        matrix: maps source pixels to canvas pixels.
        mirrored: whether the matrix mirrors, so that left and right keypoints swap.
        rectangle: part of the canvas that shows the picture.
        smallest_person_px: long side of a box below which a person is an ignore region.
        least_visible: share of a box inside the rectangle below which a person is an ignore region.
    """
    frame = np.array(rectangle, np.float64)
    ignored = [_regions(picture.ignored, matrix, frame)]
    if not picture.all_people_labeled:
        ignored.append(_regions(np.array([[0, 0, picture.width, picture.height]], np.float32), matrix, frame))

    count = len(picture.boxes)
    if not count:
        empty = np.zeros((0, 4), np.float32)
        return Labels(empty, np.zeros((0, 17, 3), np.float32), np.zeros(0, np.float32), np.concatenate(ignored))

    sizes = (picture.boxes[:, 2:] - picture.boxes[:, :2]).astype(np.float64)
    ellipses = picture.boxes[:, None, :2] + _ELLIPSE * sizes[:, None]  # (P, 16, 2)
    points = project(matrix, np.concatenate((picture.keypoints[..., :2].astype(np.float64), ellipses), 1))  # (P, 33, 2)
    visible = picture.keypoints[..., 2]
    outline = points[:, 17:]
    known = np.where(visible[..., None] > 0, points[:, :17], outline[:, :1])
    around = np.concatenate((known, outline), 1)
    whole = np.concatenate((around.min(1), around.max(1)), 1)  # (P, 4)
    cut = np.concatenate((np.clip(whole[:, :2], frame[:2], frame[2:]), np.clip(whole[:, 2:], frame[:2], frame[2:])), 1)

    inside = ((points[:, :17] >= frame[:2]) & (points[:, :17] < frame[2:])).all(2) & (visible > 0)
    keypoints = np.zeros((count, 17, 3), np.float32)
    keypoints[inside, :2] = points[:, :17][inside]
    keypoints[inside, 2] = visible[inside]
    if mirrored:
        keypoints = keypoints[:, MIRROR_ORDER]

    shown = (cut[:, 2:] - cut[:, :2]).prod(1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(1), 1e-9)
    following = np.roll(outline, -1, 1)
    outline_area = np.abs((outline[..., 0] * following[..., 1] - outline[..., 1] * following[..., 0]).sum(1)) / 2
    growth = outline_area / (sizes.prod(1) * _ELLIPSE_AREA)
    areas = picture.areas * growth * shown

    complete = inside.any(1) | ~(visible > 0).any(1)
    people = complete & (shown >= least_visible) & ((cut[:, 2:] - cut[:, :2]).max(1) >= smallest_person_px)
    boxes = cut.astype(np.float32)
    rest = boxes[~people]
    ignored.append(rest[_has_extent(rest)])
    return Labels(boxes[people], keypoints[people], areas[people].astype(np.float32), np.concatenate(ignored))


def carry(picture: Picture, matrix: Matrix, width: int, height: int) -> Picture:
    """Return a picture's labels after a rotation, shift or scaling that leaves nobody outside of the new picture."""
    growth = float(abs(np.linalg.det(matrix[:2, :2])))
    keypoints = picture.keypoints.copy()
    labeled = keypoints[..., 2] > 0
    keypoints[labeled, :2] = project(matrix, keypoints[labeled, :2].astype(np.float64))
    return replace(
        picture,
        width=width,
        height=height,
        boxes=_outlines(picture.boxes, matrix),
        keypoints=keypoints,
        areas=picture.areas * np.float32(growth),
        ignored=_outlines(picture.ignored, matrix),
        ignored_areas=picture.ignored_areas * np.float32(growth),
    )


def _outlines(boxes: NDArray[np.float32], matrix: Matrix) -> NDArray[np.float32]:
    """Return the bounds of the warped ellipses inside boxes (N, 4)."""
    points = project(matrix, boxes[:, None, :2].astype(np.float64) + _ELLIPSE * (boxes[:, None, 2:] - boxes[:, None, :2]))
    return np.concatenate((points.min(1), points.max(1)), 1).astype(np.float32)


def _regions(boxes: NDArray[np.float32], matrix: Matrix, frame: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the bounds of warped boxes, clipped by the rectangle, without those outside."""
    if not len(boxes):
        return np.zeros((0, 4), np.float32)
    sizes = boxes[:, 2:] - boxes[:, :2]
    corners = project(matrix, boxes[:, None, :2] + _CORNERS * sizes[:, None])
    cut = np.concatenate((np.clip(corners.min(1), frame[:2], frame[2:]), np.clip(corners.max(1), frame[:2], frame[2:])), 1)
    regions = cut.astype(np.float32)
    return regions[_has_extent(regions)]


def _has_extent(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which boxes are at least one pixel wide and high."""
    return np.logical_and(boxes[:, 2] - boxes[:, 0] >= 1, boxes[:, 3] - boxes[:, 1] >= 1)
