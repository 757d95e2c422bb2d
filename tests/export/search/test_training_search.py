"""The search for settings of a training: the recipe as it is, then others, each with its own recipe."""

from pathlib import Path

import pytest
import yaml

from edgepose_export.cli.main import run
from edgepose_export.network.checkpoint import save_network
from edgepose_export.training.recipe import (
    Phase,
    PoseWeights,
    Recipe,
    load_recipe,
    with_loss_weights,
)
from edgepose_export.training.refiner_losses import RefinerWeights
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively

PHASE = {"name": "short", "pictures": 8, "learning_rate": 0.01, "train": ["neck"], "sizes": [64], "batch": 8, "losses": {"task": "pose"}}


def test_settings_are_searched_and_each_run_has_its_recipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_network(tmp_path / "start.pt", lively(0))
    data = str(write_dotted(tmp_path / "mine", sizes=((300, 220),) * 4))
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({"name": "short", "phases": [PHASE]}))
    arguments = ["tune", str(tmp_path / "start.pt"), "--train", "--data", data, "--evaluate", data, "--output", str(tmp_path / "tune")]
    arguments += ["--recipe", str(tmp_path / "short.yaml"), "--size", "96"]
    assert run([*arguments, "--trials", "2", "--pictures", "8"]) == 0
    assert "settings of the training" in capfd.readouterr().out
    runs = sorted((tmp_path / "tune").glob("*/recipe.yaml"))
    assert len(runs) == 2
    assert all((path.parent / "best.pt").exists() for path in runs)
    recipes = [load_recipe(path) for path in runs]
    assert all(recipe.network == TINY for recipe in recipes)
    own = next(path for path in runs if path.parent.name == "learning-rate-1-label-weight-1-hold-weight-1-augmentation-light")
    assert load_recipe(own).phases[0].losses == PoseWeights()
    (other,) = (load_recipe(path).phases[0] for path in runs if path != own)
    assert isinstance(other.losses, PoseWeights)
    assert other.losses.box / other.losses.score == 2  # labels keep their proportion
    assert other.learning_rate != 0.01
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "tune").glob("*/best.pt")}
    assert run([*arguments, "--trials", "2", "--pictures", "8"]) == 0  # nothing is left to do
    assert begun == {path: path.stat().st_mtime_ns for path in (tmp_path / "tune").glob("*/best.pt")}


def test_weights_of_labels_and_of_the_hold_are_separate() -> None:
    pose = with_loss_weights(Recipe("a", TINY, [Phase("p", 8, 0.1, [], losses=PoseWeights(hold_features=3.0))]), 2.0, 0.5)
    assert pose.phases[0].losses == PoseWeights(2.0, 4.0, 2.0, 2.0, 0.0, 1.5, 0.5, 0.5)
    refiner = with_loss_weights(Recipe("a", TINY_REFINER, [Phase("p", 8, 0.1, [], losses=RefinerWeights(1.0, 0.5, 1.5))]), 2.0, 0.5)
    assert refiner.phases[0].losses == RefinerWeights(2.0, 0.25, 1.5)
