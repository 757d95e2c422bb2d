"""Makes 1x1 layers of a plain pose network Ghost modules in closed form.

Of the maps that a layer makes, half stay as they are (the intrinsic ones); each other one becomes the ghost of the intrinsic map that
explains it best: a 3x3 depthwise convolution fitted by least squares to its values before the activation. The order of the maps
changes, so the layers that read them follow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose.errors import ConfigError
from edgepose_export.network.cspnext import CspLayer, CspNextBlock
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork

_SAMPLES = 20000
"""Places at which maps are compared; nine numbers are fitted for each pair."""


@dataclass(frozen=True)
class GhostifyStep:
    """One layer that became a Ghost module; `error` is the mean unexplained variance of its ghost maps before the activation."""

    name: str
    error: float


def ghostify(
    plain: PoseNetwork, names: tuple[str, ...], batches: Callable[[], Iterator[Tensor]], report: Callable[[GhostifyStep], None]
) -> PoseNetwork:
    """Return a network in which the named 1x1 layers are Ghost modules, each fitted on the outputs of the ones before it.

    Args:
        plain: a network with folded batch-norms.
        names: of the layers, in the order in which they run.
        batches: yields normalized pictures (B, 3, H, W); called for each layer.
        report: called after each layer.

    Raises:
        ConfigError: a layer is not a 1x1 layer whose readers are known.
    """
    made = PoseNetwork(plain.spec)
    made.load_state_dict(plain.state_dict())
    made.eval()
    for name in names:
        readers = _Reordered.readers(made, name)
        unit = made.get_submodule(name)
        assert isinstance(unit, ConvNorm)
        before, after = _maps(made, unit, batches())
        order, kernels, biases, error = _fit(before, after)
        half = len(order) // 2
        ghost = GhostModule(unit.conv.in_channels, unit.conv.out_channels, activation=unit.activation)
        assert unit.conv.bias is not None
        assert ghost.primary.conv.bias is not None
        assert ghost.cheap.conv.bias is not None
        with torch.no_grad():
            ghost.primary.conv.weight.copy_(unit.conv.weight[order[:half]])
            ghost.primary.conv.bias.copy_(unit.conv.bias[order[:half]])
            ghost.cheap.conv.weight.copy_(kernels[:, None])
            ghost.cheap.conv.bias.copy_(biases)
        _Reordered.follow(made, readers, order)
        made.set_submodule(name, ghost)
        report(GhostifyStep(name, error))
    result = PoseNetwork(msgspec.structs.replace(plain.spec, ghost=names))
    result.load_state_dict(made.state_dict())
    return result.eval()


@torch.no_grad()
def _maps(network: PoseNetwork, unit: ConvNorm, batches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Return samples of a layer's maps before the activation (C, S), and of the 3x3 neighborhoods after it (C, 9, S)."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        kept.append(output.detach())

    handle = unit.conv.register_forward_hook(keep)
    try:
        for x in batches:
            network(x)
    finally:
        handle.remove()
    linear = torch.cat(kept)  # (B, C, h, w)
    active = F.silu(linear) if unit.activation == "silu" else F.relu(linear)
    places = torch.randperm(linear.shape[0] * linear.shape[2] * linear.shape[3], generator=torch.Generator().manual_seed(0))[:_SAMPLES]
    before = linear.transpose(0, 1).flatten(1)[:, places]
    channels = linear.shape[1]
    patches = F.unfold(active, 3, padding=1).unflatten(1, (channels, 9))  # (B, C, 9, h w)
    after = patches.permute(1, 2, 0, 3).flatten(2)[:, :, places]
    return before, after


def _fit(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Choose intrinsic maps and their ghosts.

    Returns:
        Order of the maps (C,), intrinsic ones first; kernels (C / 2, 3, 3) and biases (C / 2,) of the ghosts; the mean unexplained
        variance of the ghosts.
    """
    channels, samples = before.shape
    mean = before.mean(1)
    centered = (before - mean[:, None]).double()
    patch_mean = after.mean(2)
    patches = (after - patch_mean[:, :, None]).double()  # (C, 9, S)
    gram = patches @ patches.transpose(1, 2) / samples  # (C, 9, 9)
    gram += torch.eye(9, dtype=gram.dtype) * (1e-4 * gram.diagonal(dim1=1, dim2=2).mean(1) + 1e-9)[:, None, None]
    cross = patches @ centered.t() / samples  # (C intrinsic, 9, C ghost)
    weights = torch.linalg.solve(gram, cross)  # (C, 9, C)
    variance = centered.square().mean(1)  # (C,)
    explained = (weights * cross).sum(1) / variance.clamp_min(1e-9)  # (C intrinsic, C ghost)
    # Pairs in the order of what they lose: the loss of a ghost weighs by its variance after the activation.
    importance = patches[:, 4].square().mean(1)
    loss = (1 - explained) * importance[None]
    loss.fill_diagonal_(float("inf"))
    free = torch.ones(channels, dtype=torch.bool)
    intrinsic: list[int] = []
    ghosts: list[int] = []
    for pair in loss.flatten().argsort().tolist():
        first, second = divmod(pair, channels)
        if free[first] and free[second]:
            free[[first, second]] = False
            intrinsic.append(first)
            ghosts.append(second)
            if len(intrinsic) == channels // 2:
                break
    kernels = weights[intrinsic, :, ghosts].float()  # (C / 2, 9)
    biases = mean[ghosts] - (kernels * patch_mean[intrinsic]).sum(1)
    error = float((1 - explained[intrinsic, ghosts]).mean())
    return torch.tensor(intrinsic + ghosts), kernels.unflatten(1, (3, 3)), biases, error


class _Reordered:
    """The layers that read a layer's maps, and how they follow a new order of these."""

    @classmethod
    def follow(cls, network: PoseNetwork, readers: list[tuple[str, int]], order: Tensor) -> None:
        """Reorder the inputs of the layers that read a layer's maps."""
        for reader, offset in readers:
            cls._reorder(network, reader, offset, order)

    @classmethod
    def readers(cls, network: PoseNetwork, name: str) -> list[tuple[str, int]]:
        """Return the layers that read a layer's maps, and the position of these among their inputs."""
        parent, _, last = name.rpartition(".")
        layers = dict(network.named_modules())
        if isinstance(layers.get(name), ConvNorm):
            if name in _JUNCTIONS:
                middle = network.spec.widths[3]
                return [(reader, middle if second else 0) for reader, second in _JUNCTIONS[name]]
            csp = layers[parent.partition(".blocks")[0]]
            if isinstance(csp, CspLayer):
                # A shortcut adds the maps of `main` to those of the blocks, so neither can change its order alone.
                apart = len(csp.blocks) == 1 and not any(block.shortcut for block in csp.blocks if isinstance(block, CspNextBlock))
                if last == "short":  # beside the main path in the join
                    half = csp.main
                    assert isinstance(half, ConvNorm | GhostModule)
                    width = half.conv.out_channels if isinstance(half, ConvNorm) else 2 * half.primary.conv.out_channels
                    return cls._joined(network, parent, width)
                if last == "main" and apart:
                    return [(f"{parent}.blocks.0.first.depthwise", 0)]
                if name.endswith(".first.pointwise"):
                    return [(parent.removesuffix(".first") + ".second.depthwise", 0)]
                if name.endswith(".second.pointwise") and apart:
                    return cls._joined(network, parent.partition(".blocks")[0], 0)
        raise ConfigError(f"{name!r} cannot become a Ghost module; expected a 1x1 layer whose readers are known")

    @staticmethod
    def _joined(network: PoseNetwork, layer: str, offset: int) -> list[tuple[str, int]]:
        csp = network.get_submodule(layer)
        assert isinstance(csp, CspLayer)
        if csp.attention is not None:
            return [(f"{layer}.attention.weigh", offset), (f"{layer}.join", offset)]
        return [(f"{layer}.join", offset)]

    @classmethod
    def _reorder(cls, network: PoseNetwork, reader: str, offset: int, order: Tensor) -> None:
        unit = network.get_submodule(reader)
        if isinstance(unit, GhostModule):
            unit = unit.primary
        assert isinstance(unit, ConvNorm)
        conv = unit.conv
        with torch.no_grad():
            if conv.groups > 1:  # depthwise: its own maps change their order, and those who read them follow
                assert conv.bias is not None
                conv.weight.copy_(conv.weight[order])
                conv.bias.copy_(conv.bias[order])
                cls._reorder(network, reader.removesuffix("depthwise") + "pointwise", 0, order)
                return
            places = torch.arange(conv.in_channels)
            places[offset : offset + len(order)] = offset + order
            conv.weight.copy_(conv.weight[:, places])
            if reader.endswith("attention.weigh"):  # its outputs weigh the same maps
                assert conv.bias is not None
                conv.weight.copy_(conv.weight[places])
                conv.bias.copy_(conv.bias[places])


_JUNCTIONS: dict[str, list[tuple[str, bool]]] = {
    "trunk.stages.2.down.pointwise": [("trunk.stages.2.csp.short", False), ("trunk.stages.2.csp.main", False)],
    "trunk.stages.2.csp.join": [
        ("trunk.stages.3.down.depthwise", False),
        ("neck.down_path16.short", True),
        ("neck.down_path16.main", True),
    ],
    "trunk.stages.3.down.pointwise": [("trunk.stages.3.pooling.narrow", False)],
    "trunk.stages.3.pooling.join": [("trunk.stages.3.csp.short", False), ("trunk.stages.3.csp.main", False)],
    "trunk.stages.3.csp.join": [("neck.reduce32", False)],
    "neck.down_path16.join": [("neck.reduce16", False)],
    "neck.up_path16.join": [("neck.to32.depthwise", False), ("neck.outputs.1.depthwise", False)],
    "neck.to32.pointwise": [("neck.up_path32.short", False), ("neck.up_path32.main", False)],
    "neck.reduce32": [
        ("neck.down_path16.short", False),
        ("neck.down_path16.main", False),
        ("neck.up_path32.short", True),
        ("neck.up_path32.main", True),
    ],
    "neck.up_path32.join": [("neck.outputs.2.depthwise", False)],
}
"""Readers of the layers outside of `CspLayer`s, and whether their maps come second among the reader's inputs, after those of stride 16."""

GHOST_LAYERS = tuple(_JUNCTIONS)
"""The layers outside of `CspLayer`s that can become Ghost modules, in the order in which they run."""
