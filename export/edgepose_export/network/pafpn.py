"""The neck: features at three strides exchange what they know, coarse to fine and back.

Source: S. Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018, with the layers of RTMDet (see `cspnext`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.cspnext import CspLayer, Features
from edgepose_export.network.layers import Activation, ConvNorm, SeparableConv


class PathAggregation(nn.Module):
    """Top-down and bottom-up paths over strides 8, 16 and 32; all levels leave with the same width.

    Args:
        widths: maps of the three inputs.
        width: maps of each output.
    """

    def __init__(self, widths: tuple[int, int, int], width: int, *, activation: Activation) -> None:
        super().__init__()
        fine, middle, coarse = widths

        def csp(channels_in: int, channels_out: int) -> CspLayer:
            return CspLayer(channels_in, channels_out, 1, shortcut=False, attention=False, activation=activation)

        self.reduce32: nn.Module = ConvNorm(coarse, middle, activation=activation)
        self.down_path16 = csp(2 * middle, middle)
        self.reduce16: nn.Module = ConvNorm(middle, fine, activation=activation)
        self.down_path8 = csp(2 * fine, fine)
        self.to16 = SeparableConv(fine, fine, stride=2, activation=activation)
        self.up_path16 = csp(2 * fine, middle)
        self.to32 = SeparableConv(middle, middle, stride=2, activation=activation)
        self.up_path32 = csp(2 * middle, coarse)
        self.outputs = nn.ModuleList(SeparableConv(channels, width, activation=activation) for channels in widths)

    def forward(self, features: Features) -> list[Tensor]:
        """Map `Features` to three maps (B, width, H/8, W/8), (B, width, H/16, W/16), (B, width, H/32, W/32)."""
        stride8, stride16, stride32 = features
        coarse = self.reduce32(stride32)  # (B, C16, H/32, W/32)
        middle = self.reduce16(self.down_path16(torch.cat([_twice(coarse), stride16], 1)))  # (B, C8, H/16, W/16)
        fine = self.down_path8(torch.cat([_twice(middle), stride8], 1))  # (B, C8, H/8, W/8)
        up16 = self.up_path16(torch.cat([self.to16(fine), middle], 1))  # (B, C16, H/16, W/16)
        up32 = self.up_path32(torch.cat([self.to32(up16), coarse], 1))  # (B, C32, H/32, W/32)
        return [output(level) for output, level in zip(self.outputs, (fine, up16, up32), strict=True)]


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
