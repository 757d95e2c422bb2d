"""Exact labels in COCO's layout, from the rendered masks and the projected joints."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.errors import ConfigError
from edgepose_export.synth.renderer import MAX_PEOPLE, Rendering
from edgepose_export.synth.scene import Placed, Scene

_DEEP_M = np.array([0.035, 0.03, 0.03, 0.05, 0.05, 0.13, 0.13, 0.09, 0.09, 0.07, 0.07, 0.19, 0.19, 0.12, 0.12, 0.1, 0.1])
"""How far the surface may be in front of each joint, in meters: the depth of the joint in an adult's dressed body."""

_MIN_IN_PICTURE, _MIN_VISIBLE, _MIN_LONG_PX, _MIN_SHORT_PX = 0.3, 0.2, 8, 3


def labels_file(output: Path) -> Path:
    """Return the file of labels in a folder of synthetic pictures or clips."""
    return output / "annotations.json"


def write_labels(output: Path, labels: dict[str, Any]) -> None:
    """Write the labels of a folder; an interruption leaves the earlier file whole."""
    path = labels_file(output)
    whole = path.with_suffix(".tmp")
    whole.write_text(json.dumps(labels))
    os.replace(whole, path)


def read_labels(output: Path) -> dict[str, Any]:
    """Return the labels that an earlier run wrote into a folder; they have `info`, which says of what.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    path = labels_file(output)
    try:
        labels: dict[str, Any] = json.loads(path.read_text())
        labels["info"]  # a list, or another file, has none
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(f"{path} is not a readable file of labels ({error}); expected a new folder, or that of an earlier run") from error
    return labels


def label_people(scene: Scene, rendering: Rendering) -> list[dict[str, Any]]:
    """Return the annotation of each person with at least one pixel in the picture, without identities; see `label_person`."""
    found = (label_person(scene, rendering, number) for number in range(len(scene.people[:MAX_PEOPLE])))
    return [person for person in found if person is not None]


def label_person(scene: Scene, rendering: Rendering, number: int, top: int = 0) -> dict[str, Any] | None:
    """Return the annotation of one person, without identities; None without a pixel in the picture.

    The box spans, and `area` counts, the whole silhouette inside the picture, also where another person or a thing hides it.
    `iscrowd` is 1 for a person hardly in the picture (under 0.3 of the box), hardly visible (under 0.2 of the silhouette)
    or tiny (under 8 px long or 3 px wide); such a person has no keypoints.

    Args:
        scene: with the person.
        rendering: of the scene, or some of its rows.
        number: of the person in the scene, from 0.
        top: first row of the camera's picture that the rendering holds.
    """
    person = scene.people[number]
    silhouette = rendering.silhouettes[number]
    columns, rows = np.flatnonzero(silhouette.any(0)), np.flatnonzero(silhouette.any(1))
    if not len(columns):
        return None
    x, y = int(columns[0]), int(rows[0])
    wide, high = int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y
    area = int(silhouette.sum())
    visible = float((rendering.owner == number + 1).sum() / area)
    ignored = (
        visible < _MIN_VISIBLE
        or max(wide, high) < _MIN_LONG_PX
        or min(wide, high) < _MIN_SHORT_PX
        or wide * high < _MIN_IN_PICTURE * _whole_box_area(scene, person)
    )
    keypoints = np.zeros((17, 3)) if ignored else _keypoints(scene, rendering, person, number + 1, top)
    return {
        "category_id": 1,
        "bbox": [x, y, wide, high],
        "area": area,
        "iscrowd": int(ignored),
        "keypoints": [round(float(value), 1) for value in keypoints.ravel()],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "visible": round(visible, 2),
        "elevation": round(scene.camera.elevation(person.keypoints.mean(0)), 1),
        "pose": person.body.pose.kind,
    }


def _whole_box_area(scene: Scene, person: Placed) -> float:
    """Return the area of a person's box in px² if the picture had no edges; infinite for a person behind the camera."""
    pixels, depth = scene.camera.pixels(person.surface.vertices.astype(np.float64))
    return float(np.ptp(pixels, axis=0).prod()) if depth.min() > 0 else float("inf")


def _keypoints(scene: Scene, rendering: Rendering, person: Placed, owner: int, top: int) -> NDArray[np.float64]:
    """Return x, y and COCO's visibility (17, 3): 0 outside of the picture, 1 hidden, 2 visible.

    A joint is visible where the nearest surface is that person's and no farther in front of the joint than joints lie deep.
    """
    pixels, depth = scene.camera.pixels(person.keypoints)
    pixels = pixels - [0, top]
    height, width = rendering.owner.shape
    labels = np.zeros((17, 3))
    deep = _DEEP_M * np.clip(person.body.height / 1.7, 0.5, 1.15)
    for joint, (x, y) in enumerate(pixels):
        if not (0 <= x < width and 0 <= y < height and depth[joint] > 0):
            continue
        row, column = int(y), int(x)
        if rendering.owner[row, column] == 0:  # beside the silhouette by rounding
            around = rendering.owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            near = np.argwhere(around == owner)
            if len(near):
                row, column = max(row - 1, 0) + int(near[0][0]), max(column - 1, 0) + int(near[0][1])
        seen = rendering.owner[row, column] == owner and depth[joint] - rendering.depth[row, column] < deep[joint]
        labels[joint] = x, y, 2 if seen else 1
    return labels
