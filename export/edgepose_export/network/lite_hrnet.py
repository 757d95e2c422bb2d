"""The trunk of a refiner: several resolutions side by side, which exchange what they know after every few blocks.

Sources: C. Yu et al., "Lite-HRNet: A Lightweight High-Resolution Network", CVPR 2021, of which this is the wider variant without
channel weighting ("naive"), as PP-TinyPose uses it (PaddleDetection); N. Ma et al., "ShuffleNet V2", ECCV 2018, for the shuffle unit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.layers import Activation, ConvNorm

STRIDE = 4
"""Of the finest branch, and so of the heat maps."""


def shuffled(channels: int) -> Tensor:
    """Return the order of a channel shuffle in two groups: channel i of the shuffled map is channel `shuffled(C)[i]`: int64 (C,)."""
    return torch.arange(channels).reshape(2, channels // 2).T.flatten()


class ConvPair(nn.Sequential):
    """Depthwise 3x3 without activation, then 1x1: a separable convolution."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int = 1, activation: Activation = "relu") -> None:
        super().__init__(
            ConvNorm(channels_in, channels_in, 3, stride=stride, groups=channels_in, activation="none"),
            ConvNorm(channels_in, channels_out, activation=activation),
        )


class Stem(nn.Module):
    """A 3x3 convolution and a downsampling shuffle unit: the picture to `width` maps at stride 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv = ConvNorm(3, width, 3, stride=2, activation="relu")
        self.short = ConvPair(half, half, stride=2)
        self.long = nn.Sequential(ConvNorm(half, width, activation="relu"), ConvPair(width, half, stride=2))
        self.first: Tensor
        self.second: Tensor
        self.register_buffer("first", torch.arange(half), persistent=False)
        self.register_buffer("second", torch.arange(half, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, width, H / 4, W / 4)."""
        y = self.conv(x)  # (B, width, H / 2, W / 2)
        return torch.cat([self.short(y.index_select(1, self.first)), self.long(y.index_select(1, self.second))], 1)


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the other half goes through 1x1, depthwise 3x3, 1x1.

    ShuffleNet V2 shuffles the channels after the unit. Here the unit shuffles first and leaves its output as it is: the same
    network with renumbered channels. Shuffling and halving are then one selection of channels.
    """

    def __init__(self, width: int, ghost: bool) -> None:
        super().__init__()
        half = width // 2
        order = shuffled(width)
        self.kept: Tensor
        self.changed: Tensor
        self.register_buffer("kept", order[:half].clone(), persistent=False)
        self.register_buffer("changed", order[half:].clone(), persistent=False)
        self.widen = _pointwise(half, ghost)
        self.depthwise = ConvNorm(half, half, 3, groups=half, activation="none")
        self.project = _pointwise(half, ghost)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape: the kept channels, then the changed ones."""
        y = self.project(self.depthwise(self.widen(x.index_select(1, self.changed))))
        return torch.cat([x.index_select(1, self.kept), y], 1)


def _pointwise(width: int, ghost: bool) -> nn.Module:
    return GhostModule(width, width, activation="relu") if ghost else ConvNorm(width, width, activation="relu")


class Down(nn.Sequential):
    """Separable convolutions of stride 2 from branch `source` to the coarser branch `target`, the last without activation."""

    def __init__(self, widths: Sequence[int], source: int, target: int) -> None:
        steps = target - source
        super().__init__(
            *(ConvPair(widths[source], widths[source], stride=2) for _ in range(steps - 1)),
            ConvPair(widths[source], widths[target], stride=2, activation="none"),
        )


class Fusion(nn.Module):
    """Every branch becomes the sum of all branches, resampled to its size.

    The original adds in place, which has two effects that the weights have learned: the finest branch counts twice in its own sum, and
    the paths down start at this sum (before its activation) instead of the branch itself.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        count = len(widths)
        self.ups = nn.ModuleDict(
            {f"{i}_{j}": ConvNorm(widths[j], widths[i], activation="none") for i in range(count) for j in range(i + 1, count)}
        )
        self.downs = nn.ModuleDict({f"{i}_{j}": Down(widths, j, i) for i in range(count) for j in range(i)})

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map branches (B, C_i, h / 2^i, w / 2^i) to the same shapes."""
        count = len(branches)
        finest = branches[0] + branches[0] + self._from_coarser(0, branches)  # a product with 2 would leave the fast layout of the CPU
        sources = [finest, *branches[1:]]
        fused = [F.relu(finest)]
        for i in range(1, count):
            total = branches[i]
            for j in range(i):
                total = total + self.downs[f"{i}_{j}"](sources[j])
            fused.append(F.relu(total + self._from_coarser(i, branches) if i + 1 < count else total))
        return fused

    def _from_coarser(self, target: int, branches: list[Tensor]) -> Tensor:
        """Return the sum of the branches coarser than `target`: 1x1 convolutions, then repetition of pixels.

        The sum is taken at each resolution before the next enlargement, which is the same and cheaper.
        """
        total: Tensor | None = None
        for j in reversed(range(target + 1, len(branches))):
            y = self.ups[f"{target}_{j}"](branches[j])
            total = F.interpolate(y if total is None else total + y, scale_factor=2, mode="nearest")
        assert total is not None, "the coarsest branch has nothing coarser"
        return total


class ResolutionModule(nn.Module):
    """Shuffle units on every branch, then a fusion of the branches."""

    def __init__(self, widths: Sequence[int], units: int, ghost: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [nn.Sequential(*(ShuffleUnit(width, number in ghost) for _ in range(units))) for number, width in enumerate(widths)]
        )
        self.fusion = Fusion(widths)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map branches (B, C_i, h / 2^i, w / 2^i) to the same shapes."""
        fused: list[Tensor] = self.fusion([branch(x) for branch, x in zip(self.branches, branches, strict=True)])
        return fused


class Aggregation(nn.Module):
    """The branches from coarse to fine: each is added to the finer one after a separable convolution and bilinear enlargement."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList([ConvPair(widths[i], widths[max(i - 1, 0)]) for i in reversed(range(len(widths)))])

    def forward(self, branches: list[Tensor]) -> Tensor:
        """Map branches (B, C_i, h / 2^i, w / 2^i) to (B, C_0, h, w)."""
        total = branches[-1]
        for step, finer in zip(list(self.steps)[:-1], reversed(branches[:-1]), strict=True):
            total = finer + F.interpolate(step(total), scale_factor=2, mode="bilinear", align_corners=True)
        result: Tensor = self.steps[-1](total)
        return result


class LiteHRNet(nn.Module):
    """The trunk: a stem, then stages of two, three … branches, each twice as coarse and wide as the one before, then their sum.

    Args:
        stem: maps of the stem.
        widths: maps of the branches at strides 4, 8, 16, 32.
        modules: number of modules in the stages of two, three … branches.
        units: shuffle units in a branch of a module.
        ghost: branches (0 is the finest) whose 1x1 convolutions are Ghost modules.
    """

    def __init__(self, stem: int, widths: Sequence[int], modules: Sequence[int], units: int, ghost: Sequence[int] = ()) -> None:
        super().__init__()
        self.stem = Stem(stem)
        self.transitions = nn.ModuleList([ConvPair(stem, widths[0]), ConvPair(stem, widths[1], stride=2)])
        self.stages = nn.ModuleList()
        for stage, repeat in enumerate(modules):
            count = stage + 2
            if stage:
                self.transitions.append(ConvPair(widths[count - 2], widths[count - 1], stride=2))
            self.stages.append(nn.ModuleList([ResolutionModule(widths[:count], units, ghost) for _ in range(repeat)]))
        self.aggregation = Aggregation(widths[: len(modules) + 1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W), H and W multiples of 32, to (B, widths[0], H / 4, W / 4)."""
        y = self.stem(x)  # (B, stem, H / 4, W / 4)
        branches = [self.transitions[0](y)]
        coarsest = y
        for transition, stage in zip(list(self.transitions)[1:], self.stages, strict=True):
            branches = [*branches, transition(coarsest)]
            assert isinstance(stage, nn.ModuleList)
            for module in stage:
                branches = module(branches)
            coarsest = branches[-1]
        result: Tensor = self.aggregation(branches)
        return result
