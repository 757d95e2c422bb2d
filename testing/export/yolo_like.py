"""A small network with the parts of today's YOLO pose networks, of our own making and with random weights.

Convolutions with SiLU, channels that are split, run through a bottleneck and joined again, a chain of maxima, attention, nearest
enlargement, and a head whose box sides are means of distributions.
"""

import torch
from torch import Tensor, nn

from testing.export.ultralytics_layout import rows

STRIDES = (8, 16)
_BINS = 8


class ConvSilu(nn.Sequential):
    """A convolution with SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.SiLU())


class SplitBlock(nn.Module):
    """One half of the channels goes on through a bottleneck, and everything is joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = ConvSilu(width, width), ConvSilu(width + width // 2, width)
        self.inner = nn.Sequential(ConvSilu(width // 2, width // 2, 3), ConvSilu(width // 2, width // 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        kept, changed = self.first(x).chunk(2, 1)
        y: Tensor = self.last(torch.cat([kept, changed, changed + self.inner(changed)], 1))
        return y


class Maxima(nn.Module):
    """A map and its maxima over growing windows, joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last, self.pool = ConvSilu(width, width // 2), ConvSilu(width * 2, width), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        maps = [self.first(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        y: Tensor = self.last(torch.cat(maps, 1))
        return y


class Attention(nn.Module):
    """Attention of each cell to all others, added to the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_key_value, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.place, self.scale = nn.Conv2d(width, width, 3, 1, 1), width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, h, w)."""
        query, key, value = self.query_key_value(x).flatten(2).chunk(3, 1)
        shares = (query.transpose(1, 2) @ key * self.scale).softmax(-1)
        seen = (value @ shares.transpose(1, 2)).view_as(x)
        y: Tensor = x + self.out(seen + self.place(value.view_as(x)))
        return y


class YoloLike(nn.Module):
    """The network: (B, 3, H, W) RGB 0 to 1, H and W multiples of 16, to (B, 56, anchors)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(ConvSilu(3, 8, 3, 2), ConvSilu(8, 16, 3, 2), SplitBlock(16), ConvSilu(16, 24, 3, 2))
        self.deep = nn.Sequential(ConvSilu(24, 32, 3, 2), Maxima(32), Attention(32))
        self.enlarge, self.fuse = nn.Upsample(scale_factor=2), SplitBlock(56)
        widths = (56, 32)
        self.boxes = nn.ModuleList(nn.Sequential(ConvSilu(width, 32, 3), nn.Conv2d(32, 4 * _BINS, 1)) for width in widths)
        self.scores = nn.ModuleList(nn.Sequential(ConvSilu(width, 16, 3), nn.Conv2d(16, 1, 1)) for width in widths)
        self.keypoints = nn.ModuleList(nn.Sequential(ConvSilu(width, 16, 3), nn.Conv2d(16, 51, 1)) for width in widths)
        self.mean_bin = nn.Conv2d(_BINS, 1, 1, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
        self.mean_bin.weight.data = torch.arange(_BINS, dtype=torch.float32).view(1, _BINS, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return rows as `testing.export.ultralytics_layout.rows` does."""
        fine = self.stem(images)
        deep = self.deep(fine)
        levels = [self.fuse(torch.cat([self.enlarge(deep), fine], 1)), deep]
        bins = torch.cat([branch(x).flatten(2) for branch, x in zip(self.boxes, levels, strict=True)], 2)
        score = torch.cat([branch(x).flatten(2) for branch, x in zip(self.scores, levels, strict=True)], 2).sigmoid()
        pose = torch.cat([branch(x).flatten(2) for branch, x in zip(self.keypoints, levels, strict=True)], 2)
        spread = bins.view(len(bins), 4, _BINS, -1).transpose(1, 2).softmax(1)  # (B, bins, 4, A)
        sides = self.mean_bin(spread)[:, 0] + 0.5  # (B, 4, A)
        corners, strides = zip(*(_cells(x, stride) for x, stride in zip(levels, STRIDES, strict=True)), strict=True)
        middle, stride = torch.cat(corners, 1), torch.cat(strides)
        x, y, seen = pose.split(17, 1)
        return rows(middle - sides[:, :2] * stride, middle + sides[:, 2:] * stride, score, x.tanh() / 2, y.tanh() / 2, seen.sigmoid())


def _cells(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return the middles of a map's cells (2, h w) and their stride for each (h w), in input pixels."""
    height, width = x.shape[2:]
    rows_, columns = torch.arange(height, dtype=torch.float32) + 0.5, torch.arange(width, dtype=torch.float32) + 0.5
    grid = torch.stack([columns.expand(height, width), rows_[:, None].expand(height, width)]).flatten(1) * stride
    return grid, torch.full((height * width,), float(stride))
