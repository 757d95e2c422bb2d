"""The log of a run for TensorBoard, by choice: the same figures as `log.csv`, and the plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2

from edgepose.errors import ConfigError
from edgepose_export.training.curve import COLUMNS

FOLDER = "tensorboard"
"""Folder of a run that holds the event files."""

_FIGURES = {"AP": "AP", "learning_rate": "learning rate", "pictures_per_s": "speed/pictures a second", "skipped": "speed/skipped steps"}
assert set(_FIGURES) <= set(COLUMNS)


class TensorBoardLog:
    """The event files of a run, in its folder `tensorboard`.

    A resumed run continues the curves: steps count from the beginning of training.

    Args:
        output: folder of the run.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, output: Path) -> None:
        self._writer = _open(output / FOLDER)

    def append(self, row: Mapping[str, object]) -> None:
        """Write a row as `edgepose_export.training.curve.append` takes it; its `steps` are the axis."""
        step = int(str(row["steps"]))
        losses = row.get("losses")
        figures = {f"losses/{name}": value for name, value in losses.items()} if isinstance(losses, dict) else {}
        figures |= {tag: row[name] for name, tag in _FIGURES.items() if row.get(name) not in (None, "")}
        for tag, value in figures.items():
            self._writer.add_scalar(tag, float(str(value)), step)
        self._writer.flush()

    def add_picture(self, name: str, path: Path, steps: int = 0) -> None:
        """Write a PNG of the run, such as `labels.png`; a missing file is left out."""
        image = cv2.imread(str(path))
        if image is not None:
            self._writer.add_image(name, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), steps, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


def _open(folder: Path) -> Any:
    """Return torch's writer of event files."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # loads for seconds, and is there only by choice
    except ImportError as error:
        raise ConfigError(
            f"TensorBoard is not installed ({error}); expected the extra tensorboard: pip install './export[tensorboard]' in a checkout"
        ) from error
    return SummaryWriter(str(folder))
