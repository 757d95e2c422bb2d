"""Ghost modules: an ordinary convolution makes half of the feature maps, cheap depthwise ones the other half.

Source: the paper's equations 1 to 3 (after Han et al., "GhostNet: More Features from Cheap Operations", CVPR 2020).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Padding = Literal["same", "symmetric"]
"""Where stride 2 pads: `same` at the right and bottom only (TensorFlow), `symmetric` on all sides (PyTorch, Paddle)."""

Activation = str
"""`relu6`, `relu` or `none`: activations that fold into an INT8 convolution (SiLU does not)."""


class ConvNorm(nn.Module):
    """Convolution, optional batch-norm, optional activation: the unit that exports to one INT8 kernel.

    Padding makes the output as large as the input divided by the stride. `padding` says where stride 2 pads, which must be as the
    weights of a warm start expect.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "relu6",
        padding: Padding = "same",
    ) -> None:
        super().__init__()
        if activation not in ("relu6", "relu", "none"):
            raise ValueError(f"activation {activation!r} is unknown; accepted: relu6, relu, none")
        self.stride = stride
        self.kernel = kernel
        self.pads_itself = stride == 2 and kernel > 1 and padding == "same"
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, 0 if self.pads_itself else kernel // 2, groups=groups)
        self.norm: nn.BatchNorm2d | None = None
        self.activation = activation

    def linear(self, x: Tensor) -> Tensor:
        """Return the convolution with batch-norm, before the activation."""
        if self.pads_itself:
            x = F.pad(x, (0, self.kernel - 2, 0, self.kernel - 2))
        y: Tensor = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y = self.linear(x)
        if self.activation == "relu6":
            return F.relu6(y)
        return F.relu(y) if self.activation == "relu" else y

    def add_norm(self, mean: Tensor, variance: Tensor) -> None:
        """Add a batch-norm after the convolution without changing the function; `mean` and `variance` (C') are those of its output.

        Folded weights train badly (measured: every learning rate either stalls or diverges), so a warm start from a
        folded network needs this before training.
        """
        norm = nn.BatchNorm2d(self.conv.out_channels, eps=1e-5, momentum=0.03)
        variance = variance.clamp_min(1e-4)
        norm.running_mean = mean.clone()
        norm.running_var = variance.clone()
        with torch.no_grad():
            norm.weight.copy_((variance + norm.eps).sqrt())
            norm.bias.copy_(mean)
        self.norm = norm

    def fuse(self) -> None:
        """Fold the batch-norm into the convolution, for export."""
        if self.norm is None or self.norm.running_mean is None or self.norm.running_var is None or self.conv.bias is None:
            return
        with torch.no_grad():
            scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
            self.conv.weight.mul_(scale[:, None, None, None])
            self.conv.bias.copy_((self.conv.bias - self.norm.running_mean) * scale + self.norm.bias)
        self.norm = None


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
        activation: Activation = "relu6",
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

    def __init__(self, channels_in: int, hidden: int, channels_out: int, *, stride: int = 1, activation: Activation = "relu6") -> None:
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


class InvertedResidual(nn.Module):
    """Plain block of MobileNetV2: 1x1 expand, depthwise, linear 1x1 project. A ghost bottleneck replaces it.

    It stays where ghost modules save no time in INT8: with few channels at high resolution, and at changes of width.
    """

    def __init__(self, channels_in: int, hidden: int, channels_out: int, *, stride: int = 1, activation: Activation = "relu6") -> None:
        super().__init__()
        self.expand = ConvNorm(channels_in, hidden, activation=activation) if hidden != channels_in else None
        self.depthwise = ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden, activation=activation)
        self.project = ConvNorm(hidden, channels_out, activation="none")
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, channels_out, H / stride, W / stride)."""
        y = x if self.expand is None else self.expand(x)
        z: Tensor = self.project(self.depthwise(y))
        return x + z if self.shortcut else z


def ghost_speed_up(channels_in: int, ratio: int, kernel: int, cheap_kernel: int) -> float:
    """Return the ratio of the multiply-adds of an ordinary convolution to those of a ghost module of equal output: eq. 3.

    `r = s c k k / (c k k + (s - 1) d d)`, about `s` where `d = k` and `s` is far below `c`.
    """
    ordinary = channels_in * kernel * kernel
    return ratio * ordinary / (ordinary + (ratio - 1) * cheap_kernel * cheap_kernel)


def count_multiply_adds(module: nn.Module, x: Tensor) -> int:
    """Count the multiply-adds of all convolutions of `module` for the input `x`, while it runs."""
    total = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        per_output = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
        total += output.numel() * per_output

    handles = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return total
