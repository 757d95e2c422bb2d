"""The backbone: picture -> features at strides 4, 8, 16 and 32, by ghost bottlenecks (the paper's equations 1 and 2)."""

from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm, GhostBottleneck, GhostModule, InvertedResidual
from edgepose_export.network.spec import NetworkSpec

Features = tuple[Tensor, Tensor, Tensor, Tensor]
"""Maps at strides 4, 8, 16 and 32: (B, C4, H/4, W/4), (B, C8, H/8, W/8), (B, C16, H/16, W/16), (B, C32, H/32, W/32)."""


class Backbone(nn.Module):
    """A stem (stride 2), blocks, and a wide context layer at stride 32."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.taps = spec.taps
        self.stem = ConvNorm(3, spec.stem, 3, stride=2)
        self.blocks = nn.ModuleList()
        width = spec.stem
        for block in spec.expanded():
            kind = GhostBottleneck if block.kind == "ghost" else InvertedResidual
            self.blocks.append(kind(width, block.hidden, block.out, stride=block.stride))
            width = block.out
        self.context: nn.Module = GhostModule(width, spec.context) if spec.context_kind == "ghost" else ConvNorm(width, spec.context)

    def tap_widths(self, spec: NetworkSpec) -> tuple[int, int, int]:
        """Return the channels of the three features that the neck takes at strides 4, 8 and 16."""
        blocks = spec.expanded()
        a, b, c = (blocks[tap].out for tap in self.taps)
        return a, b, c

    def early(self, x: Tensor, count: int) -> tuple[Tensor, list[Tensor]]:
        """Run the stem and the first `count` blocks; return the output and the features tapped so far."""
        x = self.stem(x)  # (B, stem, H/2, W/2)
        tapped: list[Tensor] = []
        for index in range(count):
            x = self.blocks[index](x)
            if index in self.taps:
                tapped.append(x)
        return x, tapped

    def late(self, x: Tensor, tapped: list[Tensor], count: int, outputs: list[Tensor] | None = None) -> Features:
        """Run the remaining blocks and the context layer; append block outputs to `outputs` where given."""
        tapped = list(tapped)
        for index in range(count, len(self.blocks)):
            x = self.blocks[index](x)
            if outputs is not None:
                outputs.append(x)
            if index in self.taps:
                tapped.append(x)
        return tapped[0], tapped[1], tapped[2], self.context(x)

    def forward(self, x: Tensor) -> Features:
        """Map (B, 3, H, W) in -1..1 to features at strides 4, 8, 16 and 32."""
        return self.late(*self.early(x, 0), 0)
