"""The convolutions that all networks are made of, and the count of their multiply-adds."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["silu", "relu", "none"]
"""`relu` folds into an INT8 convolution; SiLU (x times its sigmoid) does not, but the teacher of the pose network has it."""

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "relu": F.relu, "none": lambda x: x}


class ConvNorm(nn.Module):
    """Convolution, optional batch-norm, activation: the unit that exports to one kernel.

    Padding is symmetric and makes the output as large as the input divided by the stride.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, activation: Activation = "relu"
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is unknown; accepted: {', '.join(_ACTIVATIONS)}")
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups)
        self.norm: nn.BatchNorm2d | None = None
        self.activation = activation

    def resize(self, maps_in: int, maps_out: int) -> None:
        """Replace the convolution by one of other widths with fresh weights, as a pruned network has it; a depthwise one stays so."""
        old = self.conv
        groups = maps_out if old.groups > 1 else 1
        self.conv = nn.Conv2d(maps_in, maps_out, old.kernel_size[0], old.stride[0], old.kernel_size[0] // 2, groups=groups)

    def linear(self, x: Tensor) -> Tensor:
        """Return the convolution with batch-norm, before the activation."""
        y: Tensor = self.conv(x)
        return y if self.norm is None else self.norm(y)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        return _ACTIVATIONS[self.activation](self.linear(x))

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


class SeparableConv(nn.Module):
    """Depthwise convolution, then a 1x1 convolution, each with its activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        activation: Activation = "silu",
        depthwise_activation: Activation | None = None,
    ) -> None:
        super().__init__()
        between = activation if depthwise_activation is None else depthwise_activation
        self.depthwise = ConvNorm(channels_in, channels_in, kernel, stride=stride, groups=channels_in, activation=between)
        self.pointwise: nn.Module = ConvNorm(channels_in, channels_out, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


@torch.no_grad()
def add_norms(network: nn.Module, run: Callable[[], None]) -> None:
    """Give each convolution of a folded network a batch-norm, calibrated so that the function does not change.

    Args:
        network: its `ConvNorm`s without a batch-norm get one.
        run: runs the network on typical pictures.
    """
    sums: dict[ConvNorm, tuple[Tensor, Tensor, int]] = {}

    def collect(unit: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        values = output.float().transpose(0, 1).flatten(1)  # (C, N)
        owner = owners[unit]
        mean, square, count = sums.get(owner, (torch.zeros(len(values)), torch.zeros(len(values)), 0))
        sums[owner] = (mean + values.sum(1), square + values.square().sum(1), count + values.shape[1])

    owners: dict[nn.Module, ConvNorm] = {m.conv: m for m in network.modules() if isinstance(m, ConvNorm) and m.norm is None}
    handles = [unit.register_forward_hook(collect) for unit in owners]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for owner, (total, square, count) in sums.items():
        mean = total / count
        owner.add_norm(mean, square / count - mean.square())


def fuse(network: nn.Module) -> None:
    """Fold every batch-norm of a network into its convolution."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.fuse()


def count_multiply_adds(module: nn.Module, x: Tensor) -> int:
    """Count the multiply-adds of all convolutions of `module` for the input `x`, while it runs."""
    return sum(multiply_adds_by_layer(module, x).values())


def multiply_adds_by_layer(module: nn.Module, x: Tensor) -> dict[str, int]:
    """Return the multiply-adds of each convolution of `module` for the input `x`, by the layer's name."""
    counts: dict[str, int] = {}

    def hook(name: str, layer: nn.Conv2d) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            per_output = layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            counts[name] = counts.get(name, 0) + output.numel() * per_output

        return count

    handles = [layer.register_forward_hook(hook(name, layer)) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    return counts
