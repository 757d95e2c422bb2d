"""A pruned network: the maps that are chosen are gone, and what remains computes as before with zeros in their place."""

import copy
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm, fuse
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.pruning.channels import ChannelSet
from edgepose_export.pruning.selection import Removed

_TOLERANCE = 1e-3
"""Largest difference between a pruned network and the full one with zeros, relative to the outputs."""


def shrink(network: PoseNetwork, sets: Sequence[ChannelSet], removed: Removed) -> tuple[PoseNetwork, dict[str, Tensor]]:
    """Return the network without the maps, and the numbers of the outputs that each layer keeps, by name.

    Args:
        network: with batch-norms folded; it stays as it is.
        sets: of its maps.
        removed: maps that go.

    Raises:
        ConfigError: the result does not compute what the full network with zeroed filters computes.
    """
    units = {name: unit for name, unit in network.named_modules() if isinstance(unit, ConvNorm)}
    kept_out = {name: torch.ones(unit.conv.out_channels, dtype=torch.bool) for name, unit in units.items()}
    kept_in = {name: torch.ones(unit.conv.in_channels, dtype=torch.bool) for name, unit in units.items()}
    for one in sets:
        positions = removed.get(one.name)
        if positions is None:
            continue
        for name, places in one.makers.items():
            kept_out[name][places[positions]] = False
        for name, places in one.readers.items():
            kept_in[name][places[positions].flatten()] = False
    maps = dict(network.spec.maps)
    for name, unit in units.items():
        if unit.conv.groups > 1:
            kept_in[name] = kept_out[name]
        if not (kept_out[name].all() and kept_in[name].all()):
            maps[name] = (int(kept_in[name].sum()), int(kept_out[name].sum()))
    pruned = PoseNetwork(msgspec.structs.replace(network.spec, maps=maps))
    state = network.state_dict()
    for name, unit in units.items():
        weight = state[f"{name}.conv.weight"][kept_out[name]]
        state[f"{name}.conv.weight"] = weight if unit.conv.groups > 1 else weight[:, kept_in[name]]
        state[f"{name}.conv.bias"] = state[f"{name}.conv.bias"][kept_out[name]]
    pruned.load_state_dict(state)
    pruned.eval()
    difference = largest_difference(pruned, zeroed(network, sets, removed))
    if not difference < _TOLERANCE:
        raise ConfigError(
            f"the pruned network differs by {difference:.2g} from the full one whose filters are zero; expected less than {_TOLERANCE}: "
            "a layer of this network couples maps in a way that is not known"
        )
    return pruned, {name: kept.nonzero().flatten() for name, kept in kept_out.items()}


@torch.no_grad()
def zeroed(network: PoseNetwork, sets: Sequence[ChannelSet], removed: Removed) -> PoseNetwork:
    """Return a copy of the full network in which the filters that make the removed maps are zero."""
    result = copy.deepcopy(network)
    fuse(result)
    for one in sets:
        for name, places in one.makers.items():
            unit = result.get_submodule(name)
            assert isinstance(unit, ConvNorm)
            assert unit.conv.bias is not None
            if one.name in removed:
                unit.conv.weight[places[removed[one.name]]] = 0
                unit.conv.bias[places[removed[one.name]]] = 0
    return result.eval()


@torch.no_grad()
def largest_difference(first: PoseNetwork, second: PoseNetwork) -> float:
    """Return the largest difference of raw outputs on noise, relative to the largest value of each output."""
    x = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    shares = [(a - b).abs().max() / b.abs().max().clamp_min(1e-6) for a, b in zip(first(x), second(x), strict=True)]
    return float(torch.stack(shares).max())
