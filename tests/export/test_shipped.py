"""Recipes and checkpoints that come with the package, by their bare names."""

from pathlib import Path

import pytest
from edgepose_export.network.model import load_deployed

from edgepose.errors import ConfigError
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.recipe import load_recipe

NAMES = ("ghost-n", "ghost-s", "refine-n", "refine-s")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_the_name_of_its_file(name: str) -> None:
    assert load_recipe(find_recipe(name)).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_holds_a_network_for_the_task_of_its_recipe(name: str) -> None:
    assert load_deployed(find_checkpoint(name)).spec.task == load_recipe(find_recipe(name)).network.task


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert find_recipe(str(path)) == path


def test_what_does_not_exist_is_refused_with_the_shipped_names() -> None:
    with pytest.raises(ConfigError, match="recipe nowhere does not exist; expected a file, or a shipped recipe: ghost-n, ghost-s"):
        find_recipe("nowhere")
