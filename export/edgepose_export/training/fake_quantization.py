"""Quantization-aware training: convolutions that round weights and inputs to INT8 forward, and pass gradients through unchanged.

After B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018.
Weights are rounded as `edgepose-export quantize` does, with one scale per output channel; a batch-norm after the convolution scales
whole channels, so folding it later changes no rounding. `quantize` calibrates the ranges of the trained network anew.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.layers import ConvNorm

_KEPT = 0.9999
"""Share of an input's values inside its range: the percentile method of `edgepose-export quantize`."""

_SAMPLE = 65_536
_AVERAGE_SHARE = 0.05
"""Weight of a new batch in the moving average of an input's range."""


class FakeQuantizedConv(nn.Conv2d):
    """A convolution whose weights and input are rounded to INT8; it shares the parameters of the plain one and their names.

    Attributes:
        low, high: range of the input, a moving average over batches; None before the first one.
    """

    def __init__(self, plain: nn.Conv2d) -> None:
        kernel, stride, padding = plain.kernel_size, plain.stride, plain.padding
        assert isinstance(padding, tuple)
        bias = plain.bias is not None
        super().__init__(
            plain.in_channels,
            plain.out_channels,
            (kernel[0], kernel[1]),
            (stride[0], stride[1]),
            (padding[0], padding[1]),
            groups=plain.groups,
            bias=bias,
            device="meta",
        )
        self.weight, self.bias = plain.weight, plain.bias
        self.low: float | None = None
        self.high: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        self._follow(x)
        y: Tensor = self._conv_forward(self._rounded_input(x), self._rounded_weight(), self.bias)
        return y

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        values = x.detach().float().flatten()
        values = values[:: max(1, values.numel() // _SAMPLE)]
        kept = max(1, round(len(values) * _KEPT))
        low, high = min(0.0, float(values.kthvalue(len(values) - kept + 1).values)), max(0.0, float(values.kthvalue(kept).values))
        if self.low is None or self.high is None:
            self.low, self.high = low, high
        else:
            self.low += _AVERAGE_SHARE * (low - self.low)
            self.high += _AVERAGE_SHARE * (high - self.high)

    def _rounded_input(self, x: Tensor) -> Tensor:
        assert self.low is not None
        assert self.high is not None
        scale = max(self.high - self.low, 1e-6) / 255
        zero = min(255, max(0, round(-self.low / scale)))
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)

    def _rounded_weight(self) -> Tensor:
        scale = (self.weight.detach().abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
        zero = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
        return torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -127, 127)


def quantize_in_training(network: nn.Module, integer: Callable[[str], bool]) -> list[str]:
    """Make a network's convolutions round to INT8; return the names of their layers.

    Args:
        network: changed in place; its parameters and their names stay.
        integer: whether the layer of a name, such as `trunk.stages.2.csp.join`, computes in INT8.

    Raises:
        ConfigError: no convolution is left to quantize.
    """
    chosen = [name for name, module in network.named_modules() if isinstance(module, ConvNorm) and integer(name)]
    if not chosen:
        raise ConfigError("the network has no convolution that computes in INT8; expected at least one for quantization-aware training")
    for name in chosen:
        unit = network.get_submodule(name)
        assert isinstance(unit, ConvNorm)
        unit.conv = FakeQuantizedConv(unit.conv)
    return chosen
