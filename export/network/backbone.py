"""Ghost backbone: picture -> features at strides 4, 8, 16 and 32."""

from torch import Tensor, nn

from export.network.ghost import ConvNorm, GhostBottleneck, GhostModule, InvertedResidual
from export.network.spec import NetworkSpec


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

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) in -1..1 -> features at strides 4, 8, 16 and 32."""
        x = self.stem(x)
        tapped = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                tapped.append(x)
        return tapped[0], tapped[1], tapped[2], self.context(x)
