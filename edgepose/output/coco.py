"""People as COCO results, a JSON array of detections with keypoints, and beside it the table of the images that their numbers mean.

Format: https://cocodataset.org/#format-results; `pycocotools.coco.COCO.loadRes` reads it.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from edgepose.errors import OutputError
from edgepose.messages.structs import PosesMessage

_PERSON = 1  # category of COCO
_LARGEST_ID = 2**53  # what JSON readers keep exactly


def table_path(path: Path) -> Path:
    """Return the path of the table of images for a file of results: `results.images.json` for `results.json`."""
    return path.with_name(f"{path.stem}.images.json")


def numbers_in_names(paths: Sequence[Path]) -> dict[str, int] | None:
    """Return the last number in the name of each file, None where one has none or two have the same."""
    numbers: dict[str, int] = {}
    for path in paths:
        digits = re.findall(r"\d+", path.stem)
        if not digits or int(digits[-1]) > _LARGEST_ID:
            return None
        numbers[str(path)] = int(digits[-1])
    return numbers if len(set(numbers.values())) == len(paths) else None


def coco_results(message: PosesMessage, image_id: int) -> list[dict[str, Any]]:
    """Return the people of a frame as COCO results of the image with a number."""
    return [
        {
            "image_id": image_id,
            "category_id": _PERSON,
            "bbox": list(person.box),
            "keypoints": [value for keypoint in person.keypoints for value in keypoint],
            "score": person.score,
        }
        for person in message.people
    ]


class CocoWriter:
    """Writer of COCO results. An existing file does not change before the first frame.

    The number of an image is the last number in its file's name, where all files of the run have one and no two the same; otherwise images
    are numbered from 1 in the order of the run. Further frames of one file get free numbers.

    Args:
        path: file of the results; the table of images is written beside it.
        numbers: number of each file by its path, from `numbers_in_names`; None numbers the images.

    Raises:
        OutputError: a file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], numbers: dict[str, int] | None = None) -> None:
        self.path = Path(path)
        self._numbers = dict(numbers or {})
        self._following = max(self._numbers.values(), default=0) + 1
        self._results: IO[str] | None = None
        self._images: IO[str] | None = None
        self._is_first_result = self._is_first_image = True
        for each in (self.path, table_path(self.path)):
            new = not os.path.lexists(each)
            try:
                each.open("ab").close()
                if new:
                    each.unlink()
            except OSError as error:
                raise _unwritable(each, error, "a writable file in an existing folder") from error

    def write(self, message: PosesMessage, source: str) -> None:
        """Append the people of one frame.

        Args:
            message: of the frame.
            source: path of the file that the frame comes from.

        Raises:
            OutputError: the files cannot be written.
        """
        image_id = self._numbers.pop(source, None)
        if image_id is None:
            image_id, self._following = self._following, self._following + 1
        try:
            if self._results is None or self._images is None:
                self._results = self.path.open("w")
                self._images = table_path(self.path).open("w")
                self._results.write("[")
                self._images.write('{"images": [')
            size = {"width": message.width, "height": message.height}
            image = {"id": image_id, "file_name": Path(source).name, "source": source, "frame": message.sequence, **size}
            self._images.write(("\n" if self._is_first_image else ",\n") + json.dumps(image))
            self._is_first_image = False
            for result in coco_results(message, image_id):
                self._results.write(("\n" if self._is_first_result else ",\n") + json.dumps(result))
                self._is_first_result = False
        except OSError as error:
            raise _unwritable(self.path, error, "room on the disk") from error

    def close(self) -> None:
        """Complete the files. Further calls have no effect."""
        results, self._results = self._results, None
        images, self._images = self._images, None
        try:
            if results is not None:
                results.write("\n]\n")
                results.close()
            if images is not None:
                images.write('\n], "categories": [{"id": 1, "name": "person"}]}\n')
                images.close()
        except OSError as error:
            raise _unwritable(self.path, error, "room on the disk") from error


def _unwritable(path: Path, error: OSError, expected: str) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror}; expected {expected}")
