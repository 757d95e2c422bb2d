"""The log of a run is a CSV with a plot, and event files for TensorBoard by choice."""

import csv
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgepose.errors import ConfigError, OutputError
from edgepose_export.training import curve
from edgepose_export.training.tensorboard import TensorBoardLog


def row(minutes: float, phase: str = "labels", ap: float | None = None, **losses: float) -> dict[str, object]:
    values: dict[str, object] = {
        "phase": phase,
        "pictures": int(minutes * 1000),
        "steps": int(minutes * 60),
        "minutes": minutes,
        "pictures_per_s": 16.0 + minutes,
        "learning_rate": 0.004 / (1 + minutes),
        "losses": losses or {"box": 2.0 / (1 + minutes), "score": 0.1},
        "skipped": 0.0,
    }
    return values if ap is None else values | {"AP": ap}


def test_rows_are_appended_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.csv"
    curve.append(path, row(0, ap=0.25))
    curve.append(path, row(2))
    rows = curve.read(path)
    assert [(entry["minutes"], entry["AP"]) for entry in rows] == [("0", "0.25"), ("2", "")]
    assert curve.losses_of(rows[1]) == pytest.approx({"box": 2 / 3, "score": 0.1}, rel=1e-4)
    with path.open("a") as file:
        file.write("labels,2000,12")  # the power failed
    assert len(curve.read(path)) == 2


@pytest.mark.parametrize(
    ("rows", "height"),
    [
        ([row(0)], 612),  # losses and rates
        ([row(0, ap=0.25), row(2), row(4, "second", ap=0.31)], 972),
        ([row(minutes, ap=0.2 + minutes / 100) for minutes in range(30)], 972),
        ([row(0, ap=0.25) | {"losses": {}, "learning_rate": "", "pictures_per_s": ""}], 972),  # before training
    ],
    ids=["no AP", "two phases", "many stops", "before training"],
)
def test_the_plot_has_a_panel_for_ap_where_it_was_measured(rows: list[dict[str, object]], height: int, tmp_path: Path) -> None:
    for entry in rows:
        curve.append(tmp_path / "log.csv", entry)
    curve.plot(tmp_path / "log.csv", tmp_path / "curve.png")
    image = cv2.imread(str(tmp_path / "curve.png"))
    assert image is not None
    assert image.shape[:2] == (height, 1080)


def test_an_empty_log_gives_no_plot_and_another_file_is_refused(tmp_path: Path) -> None:
    log, image = tmp_path / "log.csv", tmp_path / "curve.png"
    with log.open("w", newline="") as file:
        csv.DictWriter(file, curve.COLUMNS).writeheader()
    curve.plot(log, image)
    assert not image.exists()
    log.write_text("phase,minutes\n")
    with pytest.raises(ConfigError, match="no column AP, learning_rate"):
        curve.plot(log, image)
    with pytest.raises(OutputError, match="cannot be written"):
        curve.append(log / "log.csv", row(0))
    curve.append(tmp_path / "new.csv", row(0))
    with pytest.raises(OutputError, match="cannot be written"):
        curve.plot(tmp_path / "new.csv", tmp_path / "nowhere" / "curve.png")


class FakeWriter:
    """Stands for torch's SummaryWriter."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.scalars: dict[str, tuple[float, int]] = {}
        self.images: list[str] = []
        self.closed = False

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars[tag] = (value, step)

    def add_image(self, tag: str, image: np.ndarray, step: int, dataformats: str) -> None:
        assert image.shape[2] == 3
        assert dataformats == "HWC"
        self.images.append(tag)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = TensorBoardLog(tmp_path)
    writer: Any = log._writer
    log.append(row(2, ap=0.3))
    assert writer.folder == str(tmp_path / "tensorboard")
    assert writer.scalars["AP"] == (0.3, 120)
    assert writer.scalars["losses/box"] == (pytest.approx(2 / 3), 120)
    assert set(writer.scalars) == {"AP", "learning rate", "losses/box", "losses/score", "speed/pictures a second", "speed/skipped steps"}
    cv2.imwrite(str(tmp_path / "labels.png"), np.zeros((4, 4, 3), np.uint8))
    log.add_picture("labels", tmp_path / "labels.png")
    log.add_picture("nothing", tmp_path / "nothing.png")
    log.close()
    assert (writer.images, writer.closed) == (["labels"], True)


def test_without_tensorboard_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"not installed .*pip install '\./export\[tensorboard\]'"):
        TensorBoardLog(tmp_path)
    assert not (tmp_path / "tensorboard").exists()
