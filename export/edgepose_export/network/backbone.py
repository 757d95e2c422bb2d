"""Ghost backbone: picture -> features at strides 4, 8, 16 and 32."""

from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm, GhostBottleneck, GhostModule, InvertedResidual
from edgepose_export.network.spec import NetworkSpec

Features = tuple[Tensor, Tensor, Tensor, Tensor]
"""Maps at strides 4, 8, 16 and 32."""


class Backbone(nn.Module):
    """Stem, blocks and a wide context layer at stride 32."""

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
        """Channels of the three features that the neck takes at strides 4, 8, 16."""
        blocks = spec.expanded()
        a, b, c = (blocks[tap].out for tap in self.taps)
        return a, b, c

    def early(self, x: Tensor, count: int) -> tuple[Tensor, list[Tensor]]:
        """Stem and the first `count` blocks: their output and the features tapped so far."""
        x = self.stem(x)
        tapped: list[Tensor] = []
        for index in range(count):
            x = self.blocks[index](x)
            if index in self.taps:
                tapped.append(x)
        return x, tapped

    def late(self, x: Tensor, tapped: list[Tensor], count: int, outputs: list[Tensor] | None = None) -> Features:
        """What follows `early`; block outputs are appended to `outputs` where given."""
        tapped = list(tapped)
        for index in range(count, len(self.blocks)):
            x = self.blocks[index](x)
            if outputs is not None:
                outputs.append(x)
            if index in self.taps:
                tapped.append(x)
        return tapped[0], tapped[1], tapped[2], self.context(x)

    def forward(self, x: Tensor) -> Features:
        """(B, 3, H, W) in -1..1 -> features at strides 4, 8, 16 and 32."""
        return self.late(*self.early(x, 0), 0)
