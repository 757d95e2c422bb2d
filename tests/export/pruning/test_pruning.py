"""Pruning: the smaller network computes what the full one computes with zeros, and the maps that go are the ones that do nothing."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.cspnext import CspLayer
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.layers import ConvNorm, add_norms, count_multiply_adds
from edgepose_export.network.pose_network import PoseNetwork, PoseSpec
from edgepose_export.pruning.channels import ChannelSet, channel_sets
from edgepose_export.pruning.refit import refit
from edgepose_export.pruning.scores import (
    Scores,
    activation_scores,
    gradient_scores,
    magnitude_scores,
    norm_scores,
    random_scores,
    sensitivity_scores,
)
from edgepose_export.pruning.selection import choose_removed
from edgepose_export.pruning.shrink import shrink
from edgepose_export.training.pose_losses import unexplained
from testing.export.tiny import PRUNABLE, lively

PICTURE = torch.zeros(1, 3, 320, 320)


@pytest.fixture
def network() -> PoseNetwork:
    return lively(1, PRUNABLE).requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand((4, 3, 128, 96), generator=torch.Generator().manual_seed(0)) * 4 - 2


def scores_by(method: str, network: PoseNetwork, sets: Sequence[ChannelSet], x: Tensor) -> Scores:
    def loss(network: PoseNetwork) -> Tensor:
        maps = network(x)
        return torch.stack([maps.score.sigmoid().mean(), maps.box.square().mean(), maps.keypoints.square().mean()]).sum()

    if method == "norm":
        with_norms = lively(1, PRUNABLE)
        add_norms(with_norms, lambda: with_norms(x))
        return norm_scores(with_norms.eval(), sets)
    if method == "magnitude":
        return magnitude_scores(network, sets)
    if method == "activation":
        return activation_scores(network, sets, [x])
    if method == "random":
        return random_scores(sets, 0)
    gradient = gradient_scores(network, sets, [loss])
    return gradient if method == "gradient" else sensitivity_scores(gradient, activation_scores(network, sets, [x]))


def outputs(network: PoseNetwork, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return list(network(x))


def assert_equal(first: PoseNetwork, second: PoseNetwork, x: Tensor) -> None:
    for a, b in zip(outputs(first, x), outputs(second, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max()) + 1e-7, rtol=1e-4)


@pytest.mark.parametrize(("method", "multiple"), [("sensitivity", 8), ("norm", 8), ("random", 8), ("magnitude", 16)])
def test_the_pruned_network_is_the_full_one_with_zeros(method: str, multiple: int, network: PoseNetwork, pictures: Tensor) -> None:
    sets = channel_sets(network)
    removed = choose_removed(network, sets, scores_by(method, network, sets, pictures), keep=0.8, multiple=multiple)
    pruned, _ = shrink(network, sets, removed)
    zeros = lively(1, PRUNABLE)
    with torch.no_grad():  # by hand, filter after filter
        for one in sets:
            for name, places in one.makers.items():
                for place in places[removed.get(one.name, torch.zeros(0, dtype=torch.int64))].tolist():
                    conv = zeros.get_submodule(name).conv
                    assert isinstance(conv, torch.nn.Conv2d)
                    assert conv.bias is not None
                    conv.weight[place] = 0
                    conv.bias[place] = 0
    assert_equal(pruned, zeros, pictures)
    assert not torch.allclose(outputs(pruned, pictures)[2], outputs(network, pictures)[2])
    share = count_multiply_adds(pruned, PICTURE) / count_multiply_adds(network, PICTURE)
    assert 0.6 < share <= 0.8
    for name, unit in pruned.named_modules():
        if name in pruned.spec.maps:
            assert isinstance(unit, ConvNorm)
            before = dict(network.named_modules())[name]
            assert isinstance(before, ConvNorm)
            assert (before.conv.out_channels - unit.conv.out_channels) % multiple == 0
    again = PoseNetwork(pruned.spec)  # the spec alone says it all
    again.load_state_dict(pruned.state_dict())
    assert [output.pointwise.conv.out_channels for output in again.neck.outputs] == [PRUNABLE.neck] * 3  # type: ignore[union-attr]


def test_sums_concatenations_and_ghosts_are_coupled(network: PoseNetwork) -> None:
    sets = channel_sets(network)
    made = {name: one for one in sets for name in one.makers}
    stage = "trunk.stages.2.csp"
    residual = made[f"{stage}.main"]
    assert residual is made[f"{stage}.blocks.0.second.pointwise"] is made[f"{stage}.blocks.1.second.pointwise"]
    assert residual is not made[f"{stage}.short"]  # the other half of the concatenation
    assert residual.width == 24
    assert made[f"{stage}.short"].readers[f"{stage}.join"].flatten().tolist() == list(range(24, 48))
    ghost = network.get_submodule("neck.reduce32")
    assert isinstance(ghost, GhostModule)
    intrinsic = made["neck.reduce32.primary"]
    assert intrinsic is made["neck.reduce32.cheap"]
    assert sorted(intrinsic.readers["neck.down_path16.main"][0].tolist()) == [0, 24]  # the map and its ghost
    assert made["trunk.stages.3.pooling.narrow"].readers["trunk.stages.3.pooling.join.primary"].shape == (32, 4)


@pytest.mark.parametrize("method", ["sensitivity", "gradient", "activation"])
def test_maps_that_nobody_reads_go_first(method: str, network: PoseNetwork, pictures: Tensor) -> None:
    sets = {one.name: one for one in channel_sets(network)}
    dead: dict[str, Tensor] = {}
    for name in ("neck.up_path16.short", "head.levels.0.score_tower.1.pointwise", "trunk.stages.3.csp.join"):
        one = sets[name]
        dead[name] = torch.randperm(one.width, generator=torch.Generator().manual_seed(0))[:8].sort().values
        for reader, places in one.readers.items():
            unit = network.get_submodule(reader)
            assert isinstance(unit, ConvNorm)
            with torch.no_grad():
                unit.conv.weight[:, places[dead[name]].flatten()] = 0
    chosen = list(sets.values())
    removed = choose_removed(network, chosen, scores_by(method, network, chosen, pictures), keep=0.99)
    assert {name: removed[name].tolist() for name in dead} == {name: positions.tolist() for name, positions in dead.items()}
    pruned, _ = shrink(network, chosen, dead)
    assert_equal(pruned, network, pictures)


def test_a_slice_of_maps_is_refused(network: PoseNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = CspLayer.forward

    def sliced(self: CspLayer, x: Tensor) -> Tensor:
        y = forward(self, x)
        return torch.cat([y[:, 8:], y[:, :8]], 1)  # traced as if nothing changed places

    monkeypatch.setattr(CspLayer, "forward", sliced)
    with pytest.raises(ConfigError, match="in a way that cannot be traced, such as a slice of them"):
        channel_sets(network)


def test_maps_that_change_places_unseen_are_refused(network: PoseNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = CspLayer.forward

    def turned(self: CspLayer, x: Tensor) -> Tensor:
        return forward(self, x).flip(1)

    monkeypatch.setattr(CspLayer, "forward", turned)
    sets = channel_sets(network)
    removed = {one.name: torch.arange(8) for one in sets if "trunk.stages.3.csp.join" in one.makers}
    with pytest.raises(ConfigError, match=r"differs by .* from the full one whose filters are zero"):
        shrink(network, sets, removed)


def test_the_fit_brings_features_back(network: PoseNetwork, pictures: Tensor) -> None:
    x = torch.rand((16, 3, 96, 96), generator=torch.Generator().manual_seed(2)) * 4 - 2
    sets = channel_sets(network)
    pruned, kept = shrink(network, sets, choose_removed(network, sets, magnitude_scores(network, sets), keep=0.8))

    def error() -> float:
        with torch.no_grad():
            levels = (one.levels(one.trunk.early(pictures)) for one in (pruned, network))
            return float(unexplained(*levels))

    before = error()
    refit(network, pruned, kept, x)
    assert error() < 0.7 * before  # on other pictures


def test_what_cannot_be_reached_is_refused(network: PoseNetwork) -> None:
    sets = channel_sets(network)
    with pytest.raises(ConfigError, match=r"can shrink to \d+% of its multiply-adds, not to 5%"):
        choose_removed(network, sets, random_scores(sets, 0), keep=0.05)
    with pytest.raises(ConfigError, match="has no batch-norm; expected a checkpoint of"):
        norm_scores(network, sets)
    with pytest.raises(ConfigError, match=r"'neck\.reduce33' cannot have 8 maps in and 8 out; expected a layer of the network"):
        PoseNetwork(PoseSpec(maps={"neck.reduce33": (8, 8)}))
