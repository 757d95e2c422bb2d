"""A contact sheet of augmented training pictures with their labels, for people to check."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.errors import OutputError
from edgepose.person import SKELETON
from edgepose_export.data.augment import Augmentation, Sample, paint
from edgepose_export.data.batches import Plans
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.warp import Canvas, canvas_sides

# RGB. Left and right have different colors, so that a wrong flip is visible.
_BOX, _IGNORED, _LEFT, _RIGHT, _MIDDLE, _BONE = (255, 220, 0), (150, 150, 150), (0, 220, 0), (255, 60, 60), (60, 140, 255), (255, 255, 255)
_ENLARGED = 2  # labels are drawn on an enlarged picture, because lines of one pixel would hide a picture of 256 px
_GAP_PX = 6


def contact_sheet(
    data: CocoPose,
    plans: Plans,
    path: Path,
    augmentation: Augmentation,
    *,
    size: Canvas = 256,
    columns: int = 6,
    rows: int = 4,
    seed: int = 0,
) -> None:
    """Write a PNG of augmented pictures with boxes (yellow), ignore regions (gray, hatched), left (green) and right (red) keypoints.

    Args:
        data: labeled pictures.
        plans: plans of whole pictures, or of a refiner's crops.
        path: PNG file to write.
        augmentation: how much pictures change.
        size: of each picture.
        columns: number of columns.
        rows: number of rows.
        seed: of all random choices.

    Raises:
        ConfigError: a picture cannot be read.
        OutputError: the PNG cannot be written.
    """
    rng = np.random.default_rng(seed)
    height, width = (side * _ENLARGED for side in canvas_sides(size))
    down, right = height + _GAP_PX, width + _GAP_PX
    sheet = np.full((rows * down + _GAP_PX, columns * right + _GAP_PX, 3), 40, np.uint8)
    for cell in range(rows * columns):
        plan = plans.plan(int(rng.integers(len(plans))), size, augmentation, rng)
        made = Sample(paint(data, plan, size), plan.labels)
        top, left = _GAP_PX + cell // columns * down, _GAP_PX + cell % columns * right
        sheet[top : top + height, left : left + width] = draw(made)
    encoded, data_bytes = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded, "PNG takes every uint8 picture"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data_bytes.tobytes())
    except OSError as error:
        raise OutputError(f"contact sheet {path} cannot be written: {error.strerror or error}") from error


def draw(made: Sample) -> NDArray[np.uint8]:
    """Draw labels on a sample: uint8 (2 H, 2 W, 3), RGB."""
    image = cv2.resize(made.image, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_LINEAR)
    labels = made.labels
    for region in np.round(labels.ignored * _ENLARGED).astype(int):
        x1, y1, x2, y2 = region.tolist()
        patch = image[y1:y2, x1:x2]
        row, column = np.indices(patch.shape[:2])
        patch[(row + column) % 12 == 0] = _IGNORED
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), _IGNORED, 1)
    for box, keypoints in zip(labels.boxes, labels.keypoints, strict=True):
        x1, y1, x2, y2 = np.round(box * _ENLARGED).astype(int).tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), _BOX, 1)
        places = [tuple(np.round(place * _ENLARGED - 0.5).astype(int).tolist()) for place in keypoints[:, :2]]
        labeled = keypoints[:, 2] > 0
        for start, end in SKELETON:
            if labeled[start] and labeled[end]:
                cv2.line(image, places[start], places[end], _BONE, 1, cv2.LINE_AA)
        for number in np.flatnonzero(labeled).tolist():
            color = _MIDDLE if number == 0 else _LEFT if number % 2 else _RIGHT
            cv2.circle(image, places[number], 3, color, -1 if keypoints[number, 2] == 2 else 1, cv2.LINE_AA)  # hidden: a ring
    return np.asarray(image, np.uint8)
