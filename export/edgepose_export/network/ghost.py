"""Ghost modules: an ordinary convolution makes half of the feature maps, cheap depthwise ones the other half.

Source: the paper's equations 1 to 3 (after Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020).
"""

import torch
from torch import Tensor, nn

from edgepose_export.network.layers import Activation, ConvNorm


class GhostModule(nn.Module):
    """Ghost module of equations 1 and 2.

    Eq. 1, `Y' = X * f + b`: a `kernel`x`kernel` convolution makes `m = channels_out / ratio` intrinsic maps. Eq. 2,
    `y_ij = Phi_ij(y'_i)`: `cheap_kernel`x`cheap_kernel` depthwise convolutions make `ratio - 1` ghost maps from each; the
    identity is the last `Phi`, so the output holds the intrinsic maps too.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int = 1,
        ratio: int = 2,
        cheap_kernel: int = 3,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if ratio < 2 or channels_out % ratio:
            raise ValueError(f"a ghost module of {channels_out} channels and ratio {ratio}: the ratio must be >= 2 and divide the channels")
        intrinsic = channels_out // ratio
        self.primary = ConvNorm(channels_in, intrinsic, kernel, activation=activation)
        self.cheap = ConvNorm(intrinsic, intrinsic * (ratio - 1), cheap_kernel, groups=intrinsic, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H, W): intrinsic maps first, then their ghosts."""
        intrinsic = self.primary(x)  # (B, m, H, W), eq. 1
        return torch.cat([intrinsic, self.cheap(intrinsic)], 1)  # eq. 2


class GhostBottleneck(nn.Module):
    """Two ghost modules in series with a shortcut around both: the first widens, the second (linear) narrows.

    With stride 2 a depthwise convolution of stride 2 stands between the two. The shortcut exists where input and
    output have the same shape.
    """

    def __init__(self, channels_in: int, hidden: int, channels_out: int, *, stride: int = 1, activation: Activation = "relu") -> None:
        super().__init__()
        self.expand = GhostModule(channels_in, hidden, activation=activation)
        self.down = ConvNorm(hidden, hidden, 3, stride=2, groups=hidden, activation="none") if stride == 2 else None
        self.project = GhostModule(hidden, channels_out, activation="none")
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H / stride, W / stride)."""
        y = self.expand(x)
        if self.down is not None:
            y = self.down(y)
        z: Tensor = self.project(y)
        return x + z if self.shortcut else z


def ghost_speed_up(channels_in: int, ratio: int, kernel: int, cheap_kernel: int) -> float:
    """Return the ratio of the multiply-adds of an ordinary convolution to those of a ghost module of equal output: eq. 3.

    `r = s c k k / (c k k + (s - 1) d d)`, about `s` where `d = k` and `s` is far below `c`.
    """
    ordinary = channels_in * kernel * kernel
    return ratio * ordinary / (ordinary + (ratio - 1) * cheap_kernel * cheap_kernel)
