"""The pictures that networks are worst at, and those on which a network loses most against the first one."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.person import Person
from edgepose_export.data.coco import CocoPose
from edgepose_export.evaluation.coco import WORKING_SCORE

SIDE_PX, QUALITY = 400, 72
"""Longest side and JPEG quality of an embedded picture."""

CONFIDENCE = 0.3
"""Keypoints found with less are not drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPicture:
    """A small copy of a picture, with the skeletons of its labels and of what each column found.

    Attributes:
        file: name of the picture.
        note: why it is shown.
        width, height: of the copy in pixels.
        jpeg: its bytes in base64.
        labels: (17, 3) of each labeled person: x, y, v.
        found: by the name of the column, each find that is reported: its box (4,), and (17, 3) x, y, and 1 where it is confident, else 0.
    """

    file: str
    note: str
    width: int
    height: int
    jpeg: str
    labels: Sequence[NDArray[np.float32]]
    found: Mapping[str, Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]]


def worst_pictures(qualities: Mapping[str, Sequence[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """Return the pictures with people of the least quality, and those where a column loses most against the first.

    Args:
        qualities: `edgepose_export.report.accuracy.quality` of each picture, by the name of the column.
        count: most pictures of each kind.

    Returns:
        For each: `index` and `file` of the picture, `note` (`worst` or `lost`), and `quality` by column.
    """
    names = list(qualities)
    table = np.array([[np.nan if entry["quality"] is None else entry["quality"] for entry in qualities[name]] for name in names])
    people = np.array([entry["people"] for entry in qualities[names[0]]])
    shown = np.flatnonzero((people > 0) & ~np.isnan(table).any(0))

    def entry(index: int, note: str) -> dict[str, Any]:
        quality = {name: float(table[row, index]) for row, name in enumerate(names)}
        return {"index": index, "file": qualities[names[0]][index]["file"], "note": note, "quality": quality}

    by_quality = sorted(shown.tolist(), key=lambda index: (table[:, index].mean(), -people[index]))
    result = [entry(index, "worst") for index in by_quality[:count]]
    lost = table[0] - table.min(0)
    by_loss = sorted((index for index in shown.tolist() if lost[index] > 0.05), key=lambda index: -lost[index])
    taken = set(by_quality[:count])
    return result + [entry(index, "lost") for index in [index for index in by_loss if index not in taken][:count]]


def embed(chosen: Sequence[dict[str, Any]], data: CocoPose, predictions: Mapping[str, Sequence[Sequence[Person]]]) -> list[EmbeddedPicture]:
    """Return small copies of the chosen pictures of `worst_pictures`, with skeletons.

    Raises:
        ConfigError: a picture cannot be read.
    """
    result = []
    for entry in chosen:
        index = entry["index"]
        image, picture = data.image(index), data[index]
        scale = min(1.0, SIDE_PX / max(image.shape[:2]))
        width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(small[..., ::-1]), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
        factor = np.array([scale, scale, 1], np.float32)
        found = {
            name: [
                (person.box * np.float32(scale), _confident(person.keypoints * factor))
                for person in people[index]
                if person.score >= WORKING_SCORE
            ]
            for name, people in predictions.items()
        }
        labels = [np.asarray(keypoints * factor, np.float32) for keypoints in picture.keypoints if keypoints[:, 2].any()]
        jpeg = base64.b64encode(encoded.tobytes()).decode("ascii")
        result.append(EmbeddedPicture(entry["file"], entry["note"], width, height, jpeg, labels, found))
    return result


def _confident(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    sure = (keypoints[:, 2:] >= CONFIDENCE).astype(np.float32)
    return np.concatenate((keypoints[:, :2], sure), axis=1)
