"""Ghost modules in closed form: exact where ghosts explain everything, and the layers of the shipped recipe."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.ghostify import _JUNCTIONS, GhostifyStep, ghostify
from edgepose_export.network.layers import ConvNorm, multiply_adds_by_layer
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.shipped import find_recipe
from edgepose_export.training.recipe import load_recipe
from testing.export.tiny import TINY, lively

PLAIN = replace(TINY, ghost=(), blocks=(1, 2, 2, 1))


def shipped_spec() -> PoseSpec:
    spec = load_recipe(find_recipe("ghost-n")).network
    assert isinstance(spec, PoseSpec)
    return spec


NAMES = sorted(
    {*shipped_spec().ghost, *_JUNCTIONS, "neck.up_path32.main", "trunk.stages.2.csp.short", "trunk.stages.2.csp.blocks.1.first.pointwise"}
)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand((12, 3, 96, 64), generator=torch.Generator().manual_seed(0)) * 4 - 2


def conv_of(network: PoseNetwork, name: str) -> torch.nn.Conv2d:
    unit = network.get_submodule(name)
    assert isinstance(unit, ConvNorm)
    return unit.conv


@torch.no_grad()
def make_explainable(network: PoseNetwork, name: str, pictures: Tensor, seed: int = 0) -> None:
    """Make half of the maps, at random places, copies of the others, scaled and moved, so far above 0 that SiLU is the identity."""
    conv = conv_of(network, name)
    assert conv.bias is not None
    kept: list[Tensor] = []
    handle = conv.register_forward_hook(lambda _, __, output: kept.append(output))
    network(pictures)
    handle.remove()
    mean, deviation = kept[0].mean((0, 2, 3)), kept[0].std((0, 2, 3)) + 1e-6
    conv.weight.mul_(10 / deviation[:, None, None, None])
    conv.bias.copy_(60 + (conv.bias - mean) * 10 / deviation)
    first, second = torch.randperm(len(conv.bias), generator=torch.Generator().manual_seed(seed)).chunk(2)
    factor = torch.rand(len(first), generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.5
    conv.weight[second] = factor[:, None, None, None] * conv.weight[first]
    conv.bias[second] = factor * conv.bias[first] + 25


def assert_equal_maps(made: PoseNetwork, plain: PoseNetwork, pictures: Tensor, tolerance: float) -> None:
    with torch.inference_mode():
        for mine, theirs in zip(made(pictures), plain(pictures), strict=True):
            assert (mine - theirs).square().mean().sqrt() <= tolerance * theirs.std()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_a_layer_whose_ghosts_explain_everything_changes_nothing(name: str, activation: str, pictures: Tensor) -> None:
    """This holds only if every layer that reads the maps follows their new order."""
    plain = lively(1, replace(PLAIN, activation=activation))
    make_explainable(plain, name, pictures)
    steps: list[GhostifyStep] = []
    made = ghostify(plain, (name,), lambda: iter(pictures.split(5)), steps.append)
    assert made.spec.ghost == (name,)
    ghost = made.get_submodule(name)
    assert isinstance(ghost, GhostModule)
    assert not torch.equal(ghost.primary.conv.weight, conv_of(plain, name).weight[: ghost.primary.conv.out_channels])
    assert [step.name for step in steps] == [name]
    assert steps[0].error < 0.01
    assert_equal_maps(made, plain, pictures, 0.02)  # the fit's ridge shrinks kernels by up to a hundredth


def test_all_layers_of_the_shipped_recipe_at_once(pictures: Tensor) -> None:
    plain = lively(2, PLAIN)
    names = shipped_spec().ghost
    for seed, name in enumerate(names):
        make_explainable(plain, name, pictures, seed)
    made = ghostify(plain, names, lambda: iter(pictures.split(5)), lambda step: None)
    assert {name for name, module in made.named_modules() if isinstance(module, GhostModule)} == set(names)
    assert_equal_maps(made, plain, pictures, 0.05)


def test_ghosts_of_what_nothing_explains_cost_accuracy_and_say_so(pictures: Tensor) -> None:
    plain = lively(1, PLAIN)
    steps: list[GhostifyStep] = []
    ghostify(plain, ("trunk.stages.2.csp.join",), lambda: iter(pictures.split(5)), steps.append)
    assert 0.01 < steps[0].error < 1


@pytest.mark.parametrize(
    "name",
    [
        "neck.reduce16",
        "trunk.stages.1.csp.main",
        "trunk.stages.2.csp.blocks.0.second.pointwise",
        "trunk.stages.3.pooling.narrow",
        "trunk.stages.3.csp.attention.weigh",
        "neck.outputs.1.pointwise",
        "head.levels.0.score",
        "trunk.stem.0",
        "nowhere",
    ],
)
def test_a_layer_whose_readers_are_not_known_is_refused(name: str, pictures: Tensor) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' cannot become a Ghost module; expected a 1x1 layer whose readers are known"):
        ghostify(lively(1, PLAIN), (name,), lambda: iter([pictures]), lambda step: None)


@pytest.mark.parametrize("name", ["nowhere", "trunk.stem.0", "neck", "head.levels.0.score"])
def test_a_spec_with_a_ghost_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' cannot be a Ghost module; expected a 1x1 layer"):
        PoseNetwork(replace(PLAIN, ghost=(name,)))


WIDE_LAYERS = (
    "trunk.stages.3.down.pointwise", "trunk.stages.3.pooling.join", "trunk.stages.3.csp.short", "trunk.stages.3.csp.main",
    "trunk.stages.3.csp.blocks.0.first.pointwise", "trunk.stages.3.csp.blocks.0.second.pointwise", "trunk.stages.3.csp.join",
    "neck.reduce32", "neck.up_path32.join",
)  # fmt: skip
"""The layers that decision 18 made Ghost modules."""


def test_the_layers_of_decision_18_hold_most_of_the_multiply_adds_of_the_wide_layers() -> None:
    spec = replace(shipped_spec(), ghost=WIDE_LAYERS)
    plain = PoseNetwork(replace(spec, ghost=())).eval()
    counts = multiply_adds_by_layer(plain, torch.zeros(1, 3, 256, 320))
    wide = {
        name.removesuffix(".conv"): count
        for name, count in counts.items()
        if conv_of(plain, name.removesuffix(".conv")).kernel_size == (1, 1)
        and conv_of(plain, name.removesuffix(".conv")).out_channels >= 128
        and "attention" not in name
    }
    ghosts = sum(wide[name] for name in spec.ghost)
    assert ghosts > 0.5 * sum(wide.values())
    made = sum(multiply_adds_by_layer(PoseNetwork(spec).eval(), torch.zeros(1, 3, 256, 320)).values())
    assert np.isclose(sum(counts.values()) - made, 0.5 * ghosts, rtol=0.1)  # cheap operations take the rest
