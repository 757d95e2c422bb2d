"""The trunk: picture -> features at strides 8, 16 and 32.

Source: CSPNeXt of C. Lyu et al., "RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022: cross-stage partial
layers (Wang et al., "CSPNet", CVPR Workshops 2020) whose blocks have large depthwise kernels, with channel attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.layers import Activation, ConvNorm, SeparableConv

Features = tuple[Tensor, Tensor, Tensor]
"""Maps at strides 8, 16 and 32: (B, C8, H/8, W/8), (B, C16, H/16, W/16), (B, C32, H/32, W/32)."""


class CspNextBlock(nn.Module):
    """Two separable convolutions, the second with a 5x5 kernel, with a shortcut around both."""

    def __init__(self, width: int, *, shortcut: bool, activation: Activation) -> None:
        super().__init__()
        self.first = SeparableConv(width, width, 3, activation=activation)
        self.second = SeparableConv(width, width, 5, activation=activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        y: Tensor = self.second(self.first(x))
        return x + y if self.shortcut else y


class ChannelAttention(nn.Module):
    """Weights of channels from their means over the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = ConvNorm(width, width, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        y: Tensor = x * F.hardsigmoid(self.weigh(x.mean((2, 3), keepdim=True)))
        return y


class CspLayer(nn.Module):
    """A half of the maps passes blocks, the other half goes around them; a 1x1 convolution joins both."""

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, *, shortcut: bool, attention: bool, activation: Activation
    ) -> None:
        super().__init__()
        half = channels_out // 2
        self.short: nn.Module = ConvNorm(channels_in, half, activation=activation)
        self.main: nn.Module = ConvNorm(channels_in, half, activation=activation)
        self.blocks = nn.Sequential(*(CspNextBlock(half, shortcut=shortcut, activation=activation) for _ in range(blocks)))
        self.attention = ChannelAttention(channels_out) if attention else None
        self.join: nn.Module = ConvNorm(channels_out, channels_out, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H, W)."""
        y = torch.cat([self.blocks(self.main(x)), self.short(x)], 1)  # (B, channels_out, H, W)
        z: Tensor = self.join(y if self.attention is None else self.attention(y))
        return z


class PyramidPooling(nn.Module):
    """Maxima over windows of 5, 9 and 13 cells beside the map itself: each cell of the coarsest level sees most of the picture.

    Source: He et al., "Spatial Pyramid Pooling", TPAMI 2015, in the form of YOLOv4 and later.
    """

    _WINDOWS = (5, 9, 13)

    def __init__(self, width: int, *, activation: Activation) -> None:
        super().__init__()
        self.narrow: nn.Module = ConvNorm(width, width // 2, activation=activation)
        self.join: nn.Module = ConvNorm(width // 2 * (1 + len(self._WINDOWS)), width, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        y = self.narrow(x)  # (B, C / 2, H, W)
        z: Tensor = self.join(torch.cat([y, *(F.max_pool2d(y, window, 1, window // 2) for window in self._WINDOWS)], 1))
        return z


class Stage(nn.Module):
    """Half the resolution and another width, then a `CspLayer`."""

    def __init__(self, channels_in: int, channels_out: int, blocks: int, *, pooled: bool, activation: Activation) -> None:
        super().__init__()
        self.down = SeparableConv(channels_in, channels_out, stride=2, activation=activation)
        self.pooling = PyramidPooling(channels_out, activation=activation) if pooled else None
        self.csp = CspLayer(channels_out, channels_out, blocks, shortcut=not pooled, attention=True, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H / 2, W / 2)."""
        y = self.down(x)
        z: Tensor = self.csp(y if self.pooling is None else self.pooling(y))
        return z


class CspNext(nn.Module):
    """A stem of three 3x3 convolutions (stride 2) and four stages; the last three give the features.

    Args:
        widths: maps after the stem and after each stage.
        blocks: blocks in each stage.
        activation: of the last three stages.
        early_activation: of the stem and the first stage, where maps are largest and an activation takes as long as a convolution.
    """

    def __init__(
        self,
        widths: tuple[int, int, int, int, int],
        blocks: tuple[int, int, int, int],
        *,
        activation: Activation,
        early_activation: Activation,
    ) -> None:
        super().__init__()
        half = widths[0] // 2
        self.stem = nn.Sequential(
            ConvNorm(3, half, 3, stride=2, activation=early_activation),
            ConvNorm(half, half, 3, activation=early_activation),
            ConvNorm(half, widths[0], 3, activation=early_activation),
        )
        kinds = (early_activation, activation, activation, activation)
        self.stages = nn.ModuleList(
            Stage(widths[index], widths[index + 1], blocks[index], pooled=index == 3, activation=kinds[index]) for index in range(4)
        )

    def forward(self, x: Tensor) -> Features:
        """Map (B, 3, H, W) to `Features`."""
        return self.late(self.early(x))

    def early(self, x: Tensor) -> Tensor:
        """Run the stem and the first stage: (B, 3, H, W) -> (B, C4, H/4, W/4)."""
        y: Tensor = self.stages[0](self.stem(x))
        return y

    def late(self, stride4: Tensor) -> Features:
        """Run the other stages: (B, C4, H/4, W/4) -> `Features`."""
        stride8 = self.stages[1](stride4)
        stride16 = self.stages[2](stride8)
        return stride8, stride16, self.stages[3](stride16)
