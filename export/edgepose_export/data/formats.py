"""Chooses how a data set is read, by what its folder holds.

| form | what is named | what it holds |
|---|---|---|
| ours | `mine` | `annotations.json` and `images/` |
| COCO as COCO ships it | `coco`, `coco:val2017` | `annotations/person_keypoints_train2017.json` and `train2017/` |
| one COCO file | `FILE.json`, `FILE.json:IMAGES` | the annotations file, and a folder of pictures |
| YOLO-pose | `mine`, `mine:val`, `data.yaml`, `data.yaml:val` | `data.yaml`, `images/` and `labels/` |

Without a split after the colon, the training split is read.
"""

from dataclasses import dataclass
from pathlib import Path

from edgepose.errors import ConfigError

PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes of picture files, in small letters."""

EXPECTED = (
    "expected annotations.json and images/, or annotations/person_keypoints_*.json and folders of pictures (COCO), "
    "or data.yaml with kpt_shape (YOLO-pose)"
)
"""What a data folder may hold, for error messages."""

_TRAINING = "train"


@dataclass(frozen=True, slots=True)
class DataSource:
    """The files of a data set.

    Attributes:
        labels: annotations file in COCO's format, or `data.yaml` of a YOLO-pose set.
        images: folder that file names of a COCO file are relative to; None for YOLO-pose.
        split: name of the part of a YOLO-pose set, such as `train`; empty for COCO.
    """

    labels: Path
    images: Path | None
    split: str = ""


def find_source(source: Path) -> DataSource:
    """Find the labels and pictures of a data set.

    Args:
        source: folder or file, with an optional part after a colon; see the module.

    Raises:
        ConfigError: nothing of a known form is there.
    """
    labels, colon, images = str(source).rpartition(".json:")
    if colon:
        return _coco_file(Path(labels + ".json"), Path(images))
    split = ""
    if not source.exists() and ":" in source.name:
        head, _, split = str(source).rpartition(":")
        source = Path(head)
    if source.is_dir():
        return _folder(source, split)
    if source.suffix in (".yaml", ".yml") and source.is_file():
        return DataSource(source, None, split or _TRAINING)
    if source.suffix == ".json" and source.is_file():
        return _coco_file(source, _picture_folder(source))
    raise ConfigError(f"data {source} cannot be read: no such folder, .json or .yaml file; {EXPECTED}")


def _folder(folder: Path, split: str) -> DataSource:
    ours = folder / "annotations.json"
    if ours.is_file():
        if split:
            raise ConfigError(f"data folder {folder} has one annotations.json and no split {split!r}; expected the folder's name alone")
        return DataSource(ours, folder / "images")
    shipped = sorted((folder / "annotations").glob("*keypoints*.json"))
    if shipped:
        path = _one_of(folder, shipped, split)
        return _coco_file(path, _picture_folder(path))
    described = [
        path for path in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))) if "kpt_shape" in path.read_text(errors="replace")
    ]
    if described:
        named = [path for path in described if path.stem == "data"]
        if len(described) > 1 and not named:
            names = ", ".join(path.name for path in described)
            raise ConfigError(f"data folder {folder} has several YOLO-pose files: {names}; expected the name of one of them")
        return DataSource((named or described)[0], None, split or _TRAINING)
    found = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
    raise ConfigError(f"data folder {folder} has {f'only {shown}' if found else 'nothing in it'}; {EXPECTED}")


def _one_of(folder: Path, files: list[Path], split: str) -> Path:
    """Return the file of a split, such as `person_keypoints_val2017.json` of `val2017` or `val`."""
    ends = [path.stem.rpartition("_")[2] for path in files]
    wanted = split or (_TRAINING if len(files) > 1 else "")
    chosen = [path for path, end in zip(files, ends, strict=True) if end == wanted] or [
        path for path, end in zip(files, ends, strict=True) if end.startswith(wanted)
    ]
    if len(chosen) != 1:
        raise ConfigError(
            f"{folder / 'annotations'} has the splits {', '.join(ends)}, and {split or 'no split'} is asked for; "
            f"expected {folder}:{ends[0]} or another of them"
        )
    return chosen[0]


def _coco_file(labels: Path, images: Path) -> DataSource:
    if not labels.is_file():
        raise ConfigError(f"annotations file {labels} does not exist; expected a COCO annotations file")
    if not images.is_dir():
        raise ConfigError(f"picture folder {images} of {labels} does not exist; expected {labels}:FOLDER with an existing folder")
    return DataSource(labels, images)


def _picture_folder(labels: Path) -> Path:
    """Return the folder of pictures where COCO, and tools that export its format, put it beside the annotations file."""
    root, name = labels.parent.parent, labels.stem.rpartition("_")[2]
    candidates = (labels.parent / "images", root / name, root / "images" / name, root / "images", labels.parent)
    for folder in candidates:
        if folder.is_dir() and any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.iterdir()):
            return folder
    looked = ", ".join(str(folder) for folder in candidates)
    raise ConfigError(f"no pictures of {labels} are found in {looked}; expected {labels}:FOLDER")
