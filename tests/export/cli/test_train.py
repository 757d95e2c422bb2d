"""`train` as somebody meets it who has a folder of pictures and a shipped checkpoint."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from edgepose.model.file import read_model
from edgepose_export.cli.main import run
from edgepose_export.network.checkpoint import read_checkpoint, save_network
from edgepose_export.training import curve
from edgepose_export.training.recipe import Phase, Recipe
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively
from testing.export.yolo_folders import write_yolo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    save_network(folder / "shipped.pt", lively(0), half=True)
    save_network(folder / "refiner.pt", lively(0, TINY_REFINER), half=True)
    write_dotted(folder / "mine")
    write_dotted(folder / "aside", sizes=((300, 220),))
    return folder


def names(output: Path) -> set[str]:
    return {path.name for path in output.iterdir()}


def test_a_few_pictures_and_a_checkpoint_are_enough(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    arguments = ["--data", f"{folder / 'mine'}@0.5", "--data", str(folder / "aside"), "--evaluate", str(folder / "aside"), "--size", "96"]
    assert run(["train", "--warm-start", str(folder / "shipped.pt"), *arguments, "--output", str(output), "--pictures", "32"]) == 0
    assert names(output) == {
        "last.pt", "best.pt", "log.csv", "curve.png", "labels.png", "pictures-fine-tuning.png", "precision-recall.png", "keypoints.png",
    }  # fmt: skip
    printed = " ".join(capfd.readouterr().err.split())
    assert "people with keypoints" in printed  # the table of labels
    assert "0 steps: AP" in printed
    assert "2 steps: AP" in printed
    assert "has the best AP" in printed
    assert run(["onnx", str(output / "best.pt"), "--output", str(tmp_path / "mine.onnx")]) == 0
    assert read_model(tmp_path / "mine.onnx").info.name == "mine"
    again = ["train", "--warm-start", str(output / "best.pt"), *arguments, "--output", str(tmp_path / "again"), "--pictures", "16"]
    assert run([*again, "--labels-only"]) == 0  # from a trained checkpoint


def test_a_refiner_is_trained_the_same_way(folder: Path, tmp_path: Path) -> None:
    arguments = ["--data", str(folder / "mine"), "--evaluate", str(folder / "aside"), "--output", str(tmp_path / "run")]
    assert run(["train", "--warm-start", str(folder / "refiner.pt"), *arguments, "--pictures", "16"]) == 0
    assert {"last.pt", "best.pt", "labels.png", "curve.png"} <= names(tmp_path / "run")


def test_yolo_pose_and_minutes(folder: Path, tmp_path: Path) -> None:
    yolo = write_yolo(tmp_path / "yolo")
    arguments = ["--data", str(yolo), "--evaluate", f"{yolo}:val", "--size", "64", "--output", str(tmp_path / "run")]
    assert run(["train", "--warm-start", str(folder / "shipped.pt"), *arguments, "--minutes", "0.001"]) == 0
    training = read_checkpoint(tmp_path / "run" / "last.pt")["training"]
    assert (training["phase"], training["steps"]) == (1, 1)


@pytest.mark.parametrize("recipe", [False, True])
def test_a_time_limit_ends_with_a_measurement_and_a_plot_of_it(
    folder: Path, tmp_path: Path, recipe: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[float]] = []
    draw = curve._plot_ap

    def plot_ap(axis: Any, rows: Sequence[Mapping[str, str]]) -> None:
        draw(axis, rows)
        drawn.append([float(value) for value in axis.lines[0].get_ydata()])

    monkeypatch.setattr(curve, "_plot_ap", plot_ap)
    named = []
    if recipe:
        phase = Phase("long", 100_000, 0.01, ["neck", "head"], sizes=(64,), batch=4)
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(Recipe("tiny", TINY, [phase]))))
        named = [str(tmp_path / "tiny.yaml")]
    output = tmp_path / "run"
    arguments = ["--data", str(folder / "mine"), "--evaluate", str(folder / "aside"), "--size", "64", "--output", str(output)]
    assert run(["train", *named, "--warm-start", str(folder / "shipped.pt"), *arguments, "--minutes", "0.005"]) == 0
    assert capfd.readouterr().err.count(": AP 0.") >= 2  # before training and at the end
    with (output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["AP"] != ""
    assert drawn[-1] == [float(row["AP"]) for row in rows if row["AP"]]
    assert len(drawn[-1]) >= 2
    assert (output / "curve.png").stat().st_size > 10_000


def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    arguments = [
        "train", "--warm-start", str(folder / "shipped.pt"), "--data", str(folder / "mine"), "--output", str(tmp_path / "run"), "--resume",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepose_export", *arguments, "--pictures", "1600000"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline_s = time.monotonic() + 120
    while not (tmp_path / "run" / "pictures-fine-tuning.png").exists() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    assert run([*arguments, "--pictures", "16"]) == 0
    assert read_checkpoint(tmp_path / "run" / "last.pt")["training"]["phase"] == 1


def test_two_lengths_are_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(folder / "mine"), "--output", str(folder / "run"), "--minutes", "1", "--pictures", "16"]
    assert run(["train", "--warm-start", str(folder / "shipped.pt"), *arguments]) == 64
    assert "expected one of them without a recipe" in capfd.readouterr().err
