"""Variants of a search: networks made from a trained one by dropping blocks, by Ghost modules and by pruning, never from fresh weights.

Fresh variants would have to learn for hours before their ranks say anything; these start near what the trained one can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from msgspec.structs import replace
from torch import Tensor

from edgepose.errors import ConfigError
from edgepose_export.network.checkpoint import load_weights
from edgepose_export.network.ghostify import GHOST_LAYERS, ghostify
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.pruning.channels import channel_sets
from edgepose_export.pruning.refit import refit
from edgepose_export.pruning.scores import activation_scores
from edgepose_export.pruning.selection import choose_removed
from edgepose_export.pruning.shrink import shrink


@dataclass(frozen=True)
class Structure:
    """What a variant keeps of the trained network.

    Attributes:
        blocks: blocks that stay in the second and the third stage.
        ghost: number of layers that become Ghost modules, the widest first.
        keep: share of the multiply-adds that stays when maps are pruned, after blocks and Ghost modules; 1 prunes nothing.
    """

    blocks: tuple[int, int]
    ghost: int = 0
    keep: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))  # JSON has lists

    @property
    def name(self) -> str:
        """A name for files, the same for the same structure."""
        return f"blocks-{self.blocks[0]}-{self.blocks[1]}-ghost-{self.ghost}-keep-{self.keep:.2f}"


def make_variant(full: PoseNetwork, structure: Structure, batches: Sequence[Tensor]) -> PoseNetwork:
    """Return the network of a structure with the weights of the full one, fitted to it in closed form.

    Args:
        full: plain (no Ghost modules, not pruned), with batch-norms folded.
        structure: what stays.
        batches: normalized pictures (B, 3, H, W).

    Raises:
        ConfigError: the full network is too small for the structure.
    """
    x = torch.cat(list(batches))
    network = _drop_blocks(full, structure.blocks, x)
    if structure.ghost:
        network = ghostify(network, widest_layers(network, structure.ghost), lambda: iter(batches), lambda step: None)
    network.requires_grad_(False)
    if structure.keep < 1:
        sets = channel_sets(network)
        removed = choose_removed(network, sets, activation_scores(network, sets, batches), keep=structure.keep)
        pruned, kept = shrink(network, sets, removed)
        refit(network, pruned, kept, x)
        network = pruned
    return network


def widest_layers(network: PoseNetwork, count: int) -> tuple[str, ...]:
    """Return the layers with the most maps that can become Ghost modules, in the order in which they run."""

    def maps(name: str) -> int:
        unit = network.get_submodule(name)
        assert isinstance(unit, ConvNorm)
        return unit.conv.out_channels

    chosen = sorted(GHOST_LAYERS, key=maps, reverse=True)[:count]
    return tuple(name for name in GHOST_LAYERS if name in chosen)


def _drop_blocks(full: PoseNetwork, blocks: tuple[int, int], x: Tensor) -> PoseNetwork:
    """Return the network with the first blocks of the second and the third stage, fitted to what the stages gave before."""
    before = full.spec.blocks
    if not all(1 <= left <= had for left, had in zip(blocks, before[1:3], strict=True)):
        raise ConfigError(f"{blocks} blocks would stay of {before[1:3]}; expected 1 to that many")
    if blocks == before[1:3]:
        return full
    made = PoseNetwork(replace(full.spec, blocks=(before[0], *blocks, before[3])))
    names = made.state_dict().keys()
    load_weights(made, {name: value for name, value in full.state_dict().items() if name in names}, "the full network")
    made.eval().requires_grad_(False)
    units = {name: unit for name, unit in full.named_modules() if isinstance(unit, ConvNorm)}
    refit(full, made, {name: torch.arange(unit.conv.out_channels) for name, unit in units.items()}, x)
    return made
