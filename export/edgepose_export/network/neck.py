"""The feature pyramid: context from stride 32 flows down to one map of stride 4, through ghost laterals where they pay."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.ghost import ConvNorm, GhostModule


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1: smooths a fused map at high resolution, where ghost modules save no time in INT8."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels_in, channels_in, 3, groups=channels_in, activation="none")
        self.pointwise = ConvNorm(channels_in, channels_out, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


class FeaturePyramid(nn.Module):
    """Top-down pyramid: lateral 1x1, bilinear doubling, sum and smoothing, three times.

    Args:
        tap_widths: channels of the features at strides 4, 8 and 16.
        context: channels of the feature at stride 32.
        widths: channels at strides 32 and 16, and after the fusions at 16, 8 and 4.
        kind: `ghost` makes the wide laterals (strides 32 and 16) ghost modules; the narrow ones stay plain, since ghost modules
            save no time in INT8 there.
    """

    def __init__(self, tap_widths: tuple[int, int, int], context: int, widths: tuple[int, int, int, int], kind: str) -> None:
        super().__init__()
        wide, fused16, fused8, fused4 = widths
        lateral = GhostModule if kind == "ghost" else ConvNorm
        self.lateral32: nn.Module = lateral(context, wide, activation="none")
        self.lateral16: nn.Module = lateral(tap_widths[2], wide, activation="none")
        self.lateral8 = ConvNorm(tap_widths[1], fused16, activation="none")
        self.lateral4 = ConvNorm(tap_widths[0], fused8, activation="none")
        self.smooth16 = SeparableConv(wide, fused16)
        self.smooth8 = SeparableConv(fused16, fused8)
        self.smooth4 = SeparableConv(fused8, fused4)

    def levels(self, at4: Tensor, at8: Tensor, at16: Tensor, at32: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the smoothed maps at strides 16, 8 and 4."""
        fused16 = self.smooth16(_double(self.lateral32(at32)) + self.lateral16(at16))  # (B, fused16, H/16, W/16)
        fused8 = self.smooth8(_double(fused16) + self.lateral8(at8))  # (B, fused8, H/8, W/8)
        fused4 = self.smooth4(_double(fused8) + self.lateral4(at4))  # (B, fused4, H/4, W/4)
        return fused16, fused8, fused4

    def forward(self, at4: Tensor, at8: Tensor, at16: Tensor, at32: Tensor) -> Tensor:
        """Map features at strides 4, 8, 16 and 32 to one map (B, fused4, H / 4, W / 4)."""
        return self.levels(at4, at8, at16, at32)[2]


def _double(x: Tensor) -> Tensor:
    """Double (B, C, H, W) to (B, C, 2 H, 2 W), bilinearly."""
    if x.dtype == torch.float32:
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    # On a CPU the backward pass of the interpolation is far slower in bfloat16 than in float32.
    return F.interpolate(x.float(), scale_factor=2.0, mode="bilinear", align_corners=False).to(x.dtype)
