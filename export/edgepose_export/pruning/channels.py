"""The maps of a pose network that can go together: those that a sum, a product, a depthwise or a Ghost layer couples, as one set.

torch-pruning traces the network's own graph, so no list of layers is kept here (G. Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023). It prunes a slice of maps silently wrongly; `edgepose_export.pruning.shrink` therefore compares what it made.
"""

from dataclasses import dataclass

import torch
import torch_pruning
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """Coupled maps: the n-th of each layer goes with the n-th of all others, since they are added, multiplied or passed on.

    Attributes:
        name: of one of the layers that make the maps.
        makers: by the layer's name, the number (n,) of each map among the layer's outputs.
        readers: by the layer's name, the number (n, r) of each map among the layer's inputs; a layer may read a map r times.
    """

    name: str
    makers: dict[str, Tensor]
    readers: dict[str, Tensor]

    @property
    def width(self) -> int:
        """Number of maps."""
        return len(self.makers[self.name])


def channel_sets(network: PoseNetwork) -> list[ChannelSet]:
    """Return all sets of maps that can be pruned, in the order of the layers.

    What leaves the neck stays whole: a teacher holds these maps, and the refinement samples them. So do the heads' outputs.

    Args:
        network: with or without batch-norms; its mode is restored.

    Raises:
        ConfigError: the network couples maps in a way that cannot be traced.
    """
    units = {unit.conv: name for name, unit in network.named_modules() if isinstance(unit, ConvNorm)}
    kept = [network.refinement, network.head.keypoints.out]
    kept += [output.pointwise for output in network.neck.outputs]  # type: ignore[misc]
    kept += [part for level in network.head.levels for part in (level.score, level.box)]  # type: ignore[misc]
    ignored = [module for part in kept for module in part.modules()]
    training = network.training
    parameters = list(network.parameters())
    wanted = [parameter.requires_grad for parameter in parameters]
    network.requires_grad_(True)  # the graph is traced through gradients
    graph = torch_pruning.DependencyGraph().build_dependency(
        network.eval(), example_inputs=torch.zeros(1, 3, 64, 64), forward_fn=lambda module, x: list(module(x)), verbose=False
    )
    sets: list[ChannelSet] = []
    for group in graph.get_all_groups(ignored_layers=ignored, root_module_types=[nn.Conv2d]):
        makers: dict[str, dict[int, int]] = {}
        readers: dict[str, dict[int, list[int]]] = {}
        for item in group:
            name = units.get(item.dep.target.module)
            if name is None:
                continue
            places = zip(item.root_idxs, item.idxs, strict=True)
            if graph.is_out_channel_pruning_fn(item.dep.handler):
                makers.setdefault(name, {}).update(places)
            else:
                at = readers.setdefault(name, {})
                for root, place in places:
                    if place not in at.setdefault(root, []):
                        at[root].append(place)
        sets += _parts(makers, readers)
    for parameter, value in zip(parameters, wanted, strict=True):
        parameter.requires_grad_(value)
    network.train(training)
    order = {name: number for number, name in enumerate(units.values())}
    return sorted(sets, key=lambda one: order[one.name])


def _parts(makers: dict[str, dict[int, int]], readers: dict[str, dict[int, list[int]]]) -> list[ChannelSet]:
    """Divide a group by the layers that make its maps: the halves of a concatenation are pruned apart, each in whole multiples."""
    by_layers: dict[tuple[str, ...], list[int]] = {}
    for root in sorted({root for places in makers.values() for root in places}):
        by_layers.setdefault(tuple(name for name, places in makers.items() if root in places), []).append(root)
    parts = []
    for names, roots in by_layers.items():
        made = {name: torch.tensor([makers[name][root] for root in roots]) for name in names}
        read = {}
        for name, at in readers.items():
            times = {len(at.get(root, ())) for root in roots}
            if len(times) > 1:
                raise ConfigError(f"layer {name} reads the maps of {names[0]} in a way that cannot be traced, such as a slice of them")
            if times != {0}:
                read[name] = torch.tensor([at[root] for root in roots])
        # Of the layers that make the maps, an attention's weights are the last to name them by.
        first = next((name for name in names if not name.endswith("weigh")), names[0])
        parts.append(ChannelSet(first, made, read))
    return parts
