"""The people that a column finds in pictures, stored in a file, so that a report that is interrupted goes on where it stopped."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgepose.errors import OutputError
from edgepose.person import Person


def save_people(path: Path, predictions: Sequence[Sequence[Person]]) -> None:
    """Write the people of each picture; OutputError where that fails."""
    people = [person for picture in predictions for person in picture]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                counts=np.array([len(picture) for picture in predictions], np.int64),
                boxes=np.array([person.box for person in people], np.float32).reshape(-1, 4),
                scores=np.array([person.score for person in people], np.float64),
                keypoints=np.array([person.keypoints for person in people], np.float32).reshape(-1, 17, 3),
            )
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def load_people(path: Path) -> list[list[Person]]:
    """Return the people of each picture, as `save_people` wrote them."""
    with np.load(path) as stored:
        boxes, scores, keypoints, counts = (stored[name] for name in ("boxes", "scores", "keypoints", "counts"))
    people = [Person(box, float(score), points) for box, score, points in zip(boxes, scores, keypoints, strict=True)]
    ends = np.cumsum(counts)
    return [people[end - count : end] for count, end in zip(counts, ends, strict=True)]
