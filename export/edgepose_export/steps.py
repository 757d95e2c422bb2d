"""Steps with results on disk: a step whose inputs have not changed is not run again."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import OutputError
from edgepose_export.callbacks import Progress
from edgepose_export.data.coco import read_pictures
from edgepose_export.onnx_file import file_hash

Figures = Mapping[str, Any]
"""What a step found out, as JSON has it."""


class Workspace:
    """A folder with the files of the steps, and `STEP.json` for each: the hashes of its inputs and outputs, and its figures.

    Args:
        folder: made where it is missing.
        report: takes a line about each step.
    """

    def __init__(self, folder: Path, report: Callable[[str], None] = lambda line: None) -> None:
        self.folder = folder
        self._report = report

    def run(self, step: str, inputs: Mapping[str, object], outputs: Sequence[Path], work: Callable[[], Figures]) -> dict[str, Any]:
        """Run a step, unless it was run with the same inputs and its outputs are unchanged; return its figures.

        Args:
            step: name.
            inputs: everything that the result depends on, as JSON has it: hashes of files, options.
            outputs: files that the step writes.
            work: writes them.

        Raises:
            OutputError: the result cannot be written.
        """
        path = self.folder / f"{step}.json"
        asked = json.loads(json.dumps(inputs))
        saved = _read(path)
        if saved.get("inputs") == asked and saved.get("outputs") == _hashes(outputs):
            self._report(f"{step}: unchanged")
            return dict(saved["figures"])
        self._report(f"{step} …")
        figures = json.loads(json.dumps(dict(work())))
        replace_text(path, json.dumps({"inputs": asked, "outputs": _hashes(outputs), "figures": figures}, indent=2) + "\n")
        return dict(figures)


def data_hash(source: Path, progress: Progress | None = None) -> str:
    """Return the SHA-256 (hex) of a data set's labels, and of the names and sizes of its picture files.

    Raises:
        ConfigError: the data is refused.
    """
    digest = hashlib.sha256()
    for picture in read_pictures(source, box_people=True, progress=progress):
        size = picture.path.stat().st_size if picture.path.exists() else -1
        digest.update(f"{picture.path.name} {size} {picture.width}x{picture.height} {picture.all_people_labeled}".encode())
        for values in (
            *(picture.boxes, picture.keypoints, picture.ignored),
            *(picture.certainty, picture.keypoint_certainty, picture.hard_negatives),
        ):
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def replace_text(path: Path, text: str) -> None:
    """Write a text file atomically; OutputError where that fails."""
    temporary = path.with_suffix(path.suffix + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def replace_file(source: Path, target: Path) -> None:
    """Copy a file atomically; OutputError where that fails."""
    temporary = target.with_suffix(target.suffix + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    return {path.name: file_hash(path) if path.is_file() else "" for path in paths}


def _read(path: Path) -> dict[str, Any]:
    """Return a step's result; empty where there is none, or where it is torn."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return saved if isinstance(saved, dict) and {"inputs", "outputs", "figures"} <= saved.keys() else {}
