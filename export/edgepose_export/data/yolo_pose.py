"""Reads data sets in YOLO-pose format, which Ultralytics documents: https://docs.ultralytics.com/datasets/pose/.

`data.yaml` names the root of the set (`path`), its splits (`train`, `val`, `test`), each a folder of pictures, a `.txt` file with a
picture on each line, or a list of both; the keypoints (`kpt_shape`, `flip_idx`) and the classes (`names`). The labels of
`images/a/b.jpg` lie in `labels/a/b.txt`. Each line is a person: class, box (center x, center y, width, height), then x and y of each
keypoint, with its visibility where `kpt_shape` is [17, 3]. Coordinates are shares of the picture's width and height.

- A picture without a label file shows nobody.
- A line that ends after the box is a person without keypoints: an ignore region.
- With `kpt_shape: [17, 2]`, a keypoint at (0, 0) or with a negative coordinate is not labeled.
- `all_people_labelled: false` in `data.yaml` is our own key: people may be missing from the labels, so that nothing is background.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from edgepose.errors import ConfigError
from edgepose.person import FLIP_PAIRS, KEYPOINT_NAMES
from edgepose_export.callbacks import Progress
from edgepose_export.data.formats import PICTURE_SUFFIXES
from edgepose_export.data.picture_header import TURNED_BY_A_QUARTER, UPRIGHT, read_size

_KEYPOINTS = len(KEYPOINT_NAMES)
_FLIPPED = dict(FLIP_PAIRS) | {right: left for left, right in FLIP_PAIRS}
_FLIP_INDICES = [_FLIPPED.get(number, number) for number in range(_KEYPOINTS)]
_BOX_VALUES = 5  # class, and four of the box
_TOLERANCE = 0.02
"""Distance from the picture, as a share of its side, at which a labeled point may still lie: rounding, and clumsy clicks."""


def read_yolo_pose(description: Path, split: str, progress: Progress | None = None) -> dict[str, Any]:
    """Read one split; return it in the form of a COCO annotations file, with absolute file names.

    Args:
        description: `data.yaml`.
        split: `train`, `val` or `test`.
        progress: called after each picture.

    Raises:
        ConfigError: the description, a picture or a label is refused; the message names file and line.
    """
    values = _load(description)
    dimensions = _check_keypoints(description, values)
    person = _person_class(description, values)
    complete = bool(values.get("all_people_labelled", True))
    pictures = list(_pictures(description, values, split))
    if not pictures:
        raise ConfigError(f"{description}: split {split!r} ({values[split]}) has no pictures; expected JPEG or PNG files")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    labeled = 0
    for number, path in enumerate(pictures, 1):
        width, height, orientation = read_size(path)
        if orientation in TURNED_BY_A_QUARTER:
            width, height = height, width
        images.append(
            {"id": number, "file_name": str(path), "width": width, "height": height, "all_people_labelled": complete}
            | ({"exif_orientation": True} if orientation != UPRIGHT else {})
        )
        labels = _label_file(path)
        if labels.is_file():
            labeled += 1
            annotations += [made | {"image_id": number} for made in _people(labels, dimensions, person, width, height)]
        if progress is not None:
            progress(number, len(pictures))
    if not labeled:
        raise ConfigError(
            f"{description}: none of the {len(pictures)} pictures of split {split!r} has a label file; "
            f"expected for example {_label_file(pictures[0])}"
        )
    return {"images": images, "annotations": annotations}


def _load(description: Path) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(description.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{description} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{description} holds no keys; expected path, train, val, kpt_shape and names")
    return values


def _check_keypoints(description: Path, values: Mapping[str, Any]) -> int:
    """Refuse keypoints that are not COCO's; return the number of values of a keypoint, 2 or 3."""
    shape = values.get("kpt_shape")
    if shape not in ([_KEYPOINTS, 2], [_KEYPOINTS, 3]):
        found = "has no kpt_shape" if shape is None else f"has kpt_shape {shape}"
        raise ConfigError(f"{description} {found}; expected [17, 3] or [17, 2], the 17 COCO keypoints")
    flipped = values.get("flip_idx")
    if flipped is not None and flipped != _FLIP_INDICES:
        raise ConfigError(f"{description} has flip_idx {flipped}, so its keypoints are not in COCO's order; expected {_FLIP_INDICES}")
    names = values.get("kpt_names")
    for listed in names.values() if isinstance(names, dict) else [] if names is None else [names]:
        plain = [str(name).lower().replace(" ", "_").replace("-", "_") for name in listed]
        if plain != list(KEYPOINT_NAMES):
            raise ConfigError(f"{description} has the kpt_names {', '.join(plain)}; expected COCO's: {', '.join(KEYPOINT_NAMES)}")
    return int(shape[1])


def _person_class(description: Path, values: Mapping[str, Any]) -> int:
    """Return the number of the class of people: the one named person, or the only one."""
    names = values.get("names", {0: "person"} if values.get("nc", 1) == 1 else {})
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise ConfigError(f"{description} has names {names!r}; expected a list or numbers with names, such as 0: person")
    people = [number for number, name in names.items() if str(name).lower() == "person"]
    if not people and len(names) == 1:
        people = list(names)
    if len(people) != 1:
        raise ConfigError(f"{description} has the classes {list(names.values())}; expected one class, or one of the name person")
    return int(people[0])


def _pictures(description: Path, values: Mapping[str, Any], split: str) -> Iterator[Path]:
    """Yield the pictures of a split, in the order of the description and of file names."""
    entries = values.get(split)
    if not entries:
        named = [name for name in ("train", "val", "test") if values.get(name)]
        raise ConfigError(f"{description} has no split {split!r}; expected one of those that it names: {', '.join(named) or 'none'}")
    root = _root(description, values)
    for entry in entries if isinstance(entries, list) else [entries]:
        place = _resolve(root, str(entry))
        if place is None:
            raise ConfigError(f"{description}: {split} names {entry}, which is not in {root}; expected a folder of pictures or a .txt file")
        if place.is_dir():
            yield from sorted(_absolute(path) for path in place.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
        else:
            yield from _listed(place, root)


def _root(description: Path, values: Mapping[str, Any]) -> Path:
    """Return the root of the set: `path` from the folder of the description or the one above, or else that folder itself."""
    folder = _absolute(description).parent
    path = values.get("path")
    if path:
        for candidate in (folder / str(path), folder.parent / str(path), Path(str(path))):
            if candidate.is_dir():
                return _absolute(candidate)
    return folder


def _absolute(path: Path) -> Path:
    """Return the absolute path; links stay, because labels lie beside the link to a picture."""
    return Path(os.path.abspath(path))


def _resolve(root: Path, entry: str) -> Path | None:
    """Return the place of an entry; some tools write `../train/images` and mean `train/images`."""
    return next((place for place in (root / entry, root / entry.removeprefix("../")) if place.exists()), None)


def _listed(file: Path, root: Path) -> Iterator[Path]:
    """Yield the pictures that a text file lists, one on a line."""
    for number, line in enumerate(_text(file).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        path = next((place for place in (file.parent / name, root / name) if place.is_file()), None)
        if path is None:
            raise ConfigError(f"{file}, line {number}: picture {name} does not exist in {file.parent} or {root}")
        yield _absolute(path)


def _label_file(picture: Path) -> Path:
    """Return the place of a picture's labels: the last folder `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _people(labels: Path, dimensions: int, person: int, width: int, height: int) -> Iterator[dict[str, Any]]:
    """Yield the people of a label file, in pixels."""
    expected = _BOX_VALUES + _KEYPOINTS * dimensions
    for number, line in enumerate(_text(labels).splitlines(), 1):
        texts = line.split()
        if not texts:
            continue
        where = f"{labels}, line {number}"
        try:
            values = [float(text) for text in texts]
        except ValueError as error:
            raise ConfigError(f"{where} holds a value that is not a number: {error}; expected numbers between spaces") from error
        if not all(math.isfinite(value) for value in values):
            raise ConfigError(f"{where} holds NaN or an infinite value; expected finite numbers")
        if values[0] != person:
            continue
        if len(values) not in (_BOX_VALUES, expected):
            form = "x y visibility" if dimensions == 3 else "x y"
            raise ConfigError(f"{where} has {len(values)} values; expected {expected}: class, 4 of the box, {form} of 17 keypoints")
        x, y, w, h = values[1:_BOX_VALUES]
        if w <= 0 or h <= 0:
            raise ConfigError(f"{where} has a box of {w:g} x {h:g}; expected a width and a height above 0")
        for value, name in ((x, "center x"), (y, "center y"), (w, "width"), (h, "height")):
            _check_inside(value, where, f"the box's {name}")
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        keypoints = _keypoints(values[_BOX_VALUES:], dimensions, where, width, height)
        yield {"id": number, "bbox": box, "keypoints": keypoints, "num_keypoints": sum(visible > 0 for visible in keypoints[2::3])}


def _keypoints(values: list[float], dimensions: int, where: str, width: int, height: int) -> list[float]:
    """Return x, y, v of 17 keypoints in pixels, or nothing where there are no values."""
    keypoints: list[float] = []
    for index in range(len(values) // dimensions):
        x, y = values[dimensions * index : dimensions * index + 2]
        visible = values[dimensions * index + 2] if dimensions == 3 else 0.0 if (x == 0 and y == 0) or x < 0 or y < 0 else 2.0
        name = KEYPOINT_NAMES[index]
        if visible not in (0, 1, 2):
            raise ConfigError(f"{where}: {name} has the visibility {visible:g}; expected 0 (not labeled), 1 (hidden) or 2 (visible)")
        if visible:
            _check_inside(x, where, f"{name} x")
            _check_inside(y, where, f"{name} y")
        keypoints += [x * width, y * height, visible] if visible else [0.0, 0.0, 0.0]
    return keypoints


def _check_inside(value: float, where: str, what: str) -> None:
    if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
        raise ConfigError(f"{where}: {what} is {value:g}; expected a share of the picture's side, 0 to 1")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error
