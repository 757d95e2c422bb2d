"""What a map is worth: five ways to score it. The least worth goes first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork
from edgepose_export.pruning.channels import ChannelSet

Method = Literal["sensitivity", "gradient", "activation", "magnitude", "norm", "random"]
"""`gradient` and `activation` measure what a map does on pictures, and `sensitivity` is both: their geometric mean. `magnitude` is the
size of the weights, `norm` the scale in the batch-norms after `train --sparsity`; `random` is what the others must beat."""

Scores = Mapping[str, Tensor]
"""Scores of the maps by the name of their set."""


def magnitude_scores(network: PoseNetwork, sets: Sequence[ChannelSet]) -> Scores:
    """Score maps by the root of the summed squares of all weights that make and read them, relative to the set's mean.

    Source: H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, for groups as DepGraph.
    """
    squares: dict[str, Tensor] = {}
    for one in sets:
        total = torch.zeros(one.width)
        for name, places in one.makers.items():
            total += _weight(network, name).square().flatten(1).sum(1)[places]
        for name, places in one.readers.items():
            total += _weight(network, name).square().sum((0, 2, 3))[places].sum(1)
        squares[one.name] = total.sqrt()
    return _relative(squares)


def norm_scores(network: PoseNetwork, sets: Sequence[ChannelSet]) -> Scores:
    """Score maps by the absolute scale in the batch-norms of the layers that make them, relative to the set's mean.

    Source: Z. Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.

    Raises:
        ConfigError: the network has no batch-norms.
    """
    scores: dict[str, Tensor] = {}
    for one in sets:
        total = torch.zeros(one.width)
        for name, places in one.makers.items():
            unit = network.get_submodule(name)
            if not isinstance(unit, ConvNorm) or unit.norm is None:
                raise ConfigError(f"layer {name} has no batch-norm; expected a checkpoint of `edgepose-export train --sparsity`")
            total += unit.norm.weight.detach().abs()[places]
        scores[one.name] = total
    return _relative(scores)


@torch.no_grad()
def activation_scores(network: PoseNetwork, sets: Sequence[ChannelSet], batches: Iterable[Tensor]) -> Scores:
    """Score maps by how much of their readers' outputs varies with them: variance times squared weights, over that of all inputs.

    Args:
        network: with batch-norms folded.
        sets: of its maps.
        batches: normalized pictures (B, 3, H, W).
    """
    names = {name for one in sets for name in one.readers}
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def collect(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].transpose(0, 1).flatten(1)  # (C, N)
            total, squares, count = sums.get(name, (torch.zeros(len(values)), torch.zeros(len(values)), 0))
            sums[name] = (total + values.sum(1), squares + values.square().sum(1), count + values.shape[1])

        return collect

    handles = [_conv(network, name).register_forward_pre_hook(watch(name)) for name in names]
    try:
        for x in batches:
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    shares = {}
    for name, (total, squares, count) in sums.items():
        variance = squares / count - (total / count).square()
        effect = variance.clamp_min(0) * _weight(network, name).square().sum((0, 2, 3))  # (C,)
        shares[name] = effect / effect.sum().clamp_min(1e-12)
    return _over_readers(sets, shares)


def gradient_scores(network: PoseNetwork, sets: Sequence[ChannelSet], losses: Iterable[Callable[[PoseNetwork], Tensor]]) -> Scores:
    """Score maps by the mean square of what the loss would change without them, to the first order.

    The derivative by a factor on a map is the sum of weight times gradient over all that read it (P. Molchanov et al., "Importance
    Estimation for Neural Network Pruning", CVPR 2019).

    Args:
        network: with batch-norms folded.
        sets: of its maps.
        losses: map a network to its loss on some pictures; few each, because means over many hide what single ones need.
    """
    totals = {one.name: torch.zeros(one.width) for one in sets}
    count = 0
    network.requires_grad_(True)
    for loss in losses:
        network.zero_grad()
        loss(network).backward()
        products = {}
        for name in {name for one in sets for name in one.readers}:
            weight = _conv(network, name).weight
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            products[name] = (weight.detach() * gradient).sum((0, 2, 3))
        for one in sets:
            change = torch.stack([products[name][places].sum(1) for name, places in one.readers.items()]).sum(0)
            totals[one.name] += change.square()
        count += 1
    network.zero_grad()
    network.requires_grad_(False)
    return {name: total / max(count, 1) for name, total in totals.items()}


def sensitivity_scores(gradient: Scores, activation: Scores) -> Scores:
    """Return the geometric means: one sees what the loss needs, the other what the features need where the loss is flat."""
    return {name: (score * activation[name]).sqrt() for name, score in gradient.items()}


def random_scores(sets: Sequence[ChannelSet], seed: int) -> Scores:
    """Score maps at random."""
    generator = torch.Generator().manual_seed(seed)
    return {one.name: torch.rand(one.width, generator=generator) for one in sets}


def _over_readers(sets: Sequence[ChannelSet], by_input: Mapping[str, Tensor]) -> Scores:
    return {one.name: torch.stack([by_input[name][places].sum(1) for name, places in one.readers.items()]).sum(0) for one in sets}


def _relative(scores: Mapping[str, Tensor]) -> Scores:
    """Divide by the mean of each set: sizes of weights of different layers say nothing about one another."""
    return {name: score / score.mean().clamp_min(1e-12) for name, score in scores.items()}


def _conv(network: PoseNetwork, name: str) -> nn.Conv2d:
    unit = network.get_submodule(name)
    assert isinstance(unit, ConvNorm)
    return unit.conv


def _weight(network: PoseNetwork, name: str) -> Tensor:
    return _conv(network, name).weight.detach()
