"""Which maps go: always those that are worth least for the multiply-adds that they cost, in whole multiples of a width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm, multiply_adds_by_layer
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.pruning.channels import ChannelSet
from edgepose_export.pruning.scores import Scores

Removed = Mapping[str, Tensor]
"""Positions of the maps that go by the name of their set, rising."""

_SIDE_PX = 320


@dataclass
class _Layer:
    maps_in: int
    maps_out: int
    per_pair: float
    """Multiply-adds of a pair of an input and an output; of a depthwise layer of one map."""
    depthwise: bool

    def cost(self) -> float:
        return self.per_pair * self.maps_out * (1 if self.depthwise else self.maps_in)


def choose_removed(
    network: PoseNetwork, sets: Sequence[ChannelSet], scores: Scores, *, keep: float, multiple: int = 8, least: float = 0.25
) -> Removed:
    """Choose maps until the network has at most `keep` of its multiply-adds.

    Args:
        network: what `sets` belong to.
        sets: of maps.
        scores: of the maps.
        keep: share of the multiply-adds that may remain.
        multiple: of which all widths stay multiples; a set that is no multiple stays whole.
        least: share of each set that stays.

    Raises:
        ConfigError: so few multiply-adds cannot be reached.
    """
    layers = _layers(network)
    full = sum(layer.cost() for layer in layers.values())
    order = {one.name: scores[one.name].argsort(stable=True) for one in sets}
    gone = {one.name: 0 for one in sets}
    whole = {one.name for one in sets if one.width % multiple}
    left = full
    while left > keep * full:
        best: tuple[float, ChannelSet, float] | None = None
        for one in sets:
            start = gone[one.name]
            remaining = one.width - start - multiple
            if one.name in whole or remaining < max(multiple, least * one.width):
                continue
            saved = _saving(layers, one, multiple)
            worth = float(scores[one.name][order[one.name][start : start + multiple]].sum()) / saved
            if best is None or worth < best[0]:
                best = (worth, one, saved)
        if best is None:
            raise ConfigError(
                f"the network can shrink to {left / full:.0%} of its multiply-adds, not to {keep:.0%}; expected more that remain, "
                f"or a smaller multiple than {multiple}"
            )
        _, one, saved = best
        _shrink(layers, one, multiple)
        gone[one.name] += multiple
        left -= saved
    return {name: order[name][:count].sort().values for name, count in gone.items() if count}


def _layers(network: PoseNetwork) -> dict[str, _Layer]:
    counted = multiply_adds_by_layer(network, torch.zeros(1, 3, _SIDE_PX, _SIDE_PX))
    layers = {}
    for name, unit in network.named_modules():
        if isinstance(unit, ConvNorm) and f"{name}.conv" in counted:
            conv, depthwise = unit.conv, unit.conv.groups > 1
            pairs = conv.out_channels * (1 if depthwise else conv.in_channels)
            layers[name] = _Layer(conv.in_channels, conv.out_channels, counted[f"{name}.conv"] / pairs, depthwise)
    return layers


def _changes(layers: dict[str, _Layer], one: ChannelSet, count: int) -> dict[str, tuple[int, int]]:
    """Return the maps in and out of each layer that a set changes, after `count` of it are gone."""
    changed: dict[str, tuple[int, int]] = {}
    for name in one.makers:
        layer = layers[name]
        changed[name] = (layer.maps_in - count if layer.depthwise else layer.maps_in, layer.maps_out - count)
    for name, places in one.readers.items():
        maps_in, maps_out = changed.get(name, (layers[name].maps_in, layers[name].maps_out))
        if not layers[name].depthwise:
            changed[name] = (maps_in - count * places.shape[1], maps_out)
    return changed


def _saving(layers: dict[str, _Layer], one: ChannelSet, count: int) -> float:
    saved = 0.0
    for name, (maps_in, maps_out) in _changes(layers, one, count).items():
        layer = layers[name]
        saved += layer.cost() - _Layer(maps_in, maps_out, layer.per_pair, layer.depthwise).cost()
    return saved


def _shrink(layers: dict[str, _Layer], one: ChannelSet, count: int) -> None:
    for name, (maps_in, maps_out) in _changes(layers, one, count).items():
        layers[name].maps_in, layers[name].maps_out = maps_in, maps_out
