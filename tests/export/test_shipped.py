"""Recipes and checkpoints that come with the package, by their bare names."""

from pathlib import Path

import pytest

from edgepose.errors import ConfigError
from edgepose_export.network.checkpoint import build, load_deployed
from edgepose_export.shipped import find_checkpoint, find_recipe
from edgepose_export.training.parameter_groups import parameter_groups
from edgepose_export.training.recipe import load_recipe

FOLDER = find_recipe("ghost-n").parents[1]
RECIPES = sorted(path.stem for path in (FOLDER / "recipes").glob("*.yaml"))
WITH_NETWORK = [name for name in RECIPES if not name.startswith("finetune")]  # those have phases only
CHECKPOINTS = sorted(path.stem for path in (FOLDER / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize("name", WITH_NETWORK)
def test_a_recipe_has_the_name_of_its_file_and_a_network_that_can_be_built(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    network = build(recipe.network)
    for phase in recipe.phases:
        assert parameter_groups(network, phase, {})  # refuses prefixes that no parameter has


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_holds_the_network_of_its_recipe(name: str) -> None:
    assert load_deployed(find_checkpoint(name)).spec == load_recipe(find_recipe(name)).network


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert find_recipe(str(path)) == path


def test_what_does_not_exist_is_refused_with_the_shipped_names() -> None:
    with pytest.raises(ConfigError, match=f"recipe nowhere does not exist; expected a file, or a shipped recipe: {', '.join(RECIPES)}"):
        find_recipe("nowhere")
