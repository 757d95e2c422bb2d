"""The refiner network: a crop of one person -> heat maps -> that person's keypoints."""

from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from edgepose_export.network.heatmap import KEYPOINTS, HeatMapDecoder
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.lite_hrnet import STRIDE, LiteHRNet

Side = Annotated[int, Meta(ge=32, multiple_of=32)]
MapCount = Annotated[int, Meta(ge=8, le=8192, multiple_of=4)]
Count = Annotated[int, Meta(ge=1, le=64)]


class RefinerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="refine"):
    """The structure of a refiner, as the `network` part of a recipe states it."""

    crop_height: Side = 128
    crop_width: Side = 96
    """Sides of the crop in pixels."""
    crop_margin: Annotated[float, Meta(ge=1)] = 1.1
    """Ratio of the crop to the person's box, after the box has grown to the crop's aspect."""
    stem: MapCount = 32
    widths: tuple[MapCount, MapCount, MapCount, MapCount] = (40, 80, 160, 320)
    """Maps of the branches at strides 4, 8, 16 and 32."""
    modules: tuple[Count, Count, Count] = (2, 4, 2)
    """Modules in the stages of two, three and four branches."""
    units: Count = 2
    """Shuffle units in each branch of a module."""
    ghost: tuple[Annotated[int, Meta(ge=0, le=3)], ...] = ()
    """Branches, from 0 for stride 4, whose 1x1 convolutions are Ghost modules."""


TINYPOSE_128 = RefinerSpec()
"""PP-TinyPose at 128x96, the teacher of `refine-n`, as a special case of this network."""

TINYPOSE_256 = RefinerSpec(crop_height=256, crop_width=192, crop_margin=1.25)
"""PP-TinyPose at 256x192, the teacher of `refine-s`, as a special case of this network."""

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's RGB in 0..1, with which the teacher was trained."""


class RefinerNetwork(nn.Module):
    """The network that a `RefinerSpec` describes.

    `forward` maps a crop to heat maps, `decode` maps these to keypoints. `RefinerGraph` joins both after the model file's uint8 input.

    Attributes:
        score_weights: (3,) of the runtime's `edgepose.pose.refine.regions`: bias, and weights of the logit of score times confidence
            and of the agreement. Until `calibrate-score`, the score is the product.
    """

    def __init__(self, spec: RefinerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", 255 * torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(_DEVIATION)[:, None, None]), persistent=False)
        self.trunk = LiteHRNet(spec.stem, spec.widths, spec.modules, spec.units, spec.ghost)
        self.heat = ConvNorm(spec.widths[0], KEYPOINTS, activation="none")
        self.decode = HeatMapDecoder(spec.crop_height // STRIDE, spec.crop_width // STRIDE)
        self.score_weights: Tensor
        self.register_buffer("score_weights", torch.tensor([0.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) RGB by `normalize` to heat maps (B, 17, H / 4, W / 4)."""
        heat: Tensor = self.heat(self.trunk(x))
        return heat

    def normalize(self, crops: Tensor) -> Tensor:
        """Convert uint8 (B, H, W, 3) RGB to float (B, 3, H, W) of ImageNet's mean 0 and deviation 1, as the model file's graph does."""
        # Cast before the transpose: TensorRT refuses to transpose uint8. The scale is not folded into the first convolution, because
        # that pads with zeros, which are the mean here and would be black then.
        return (crops.to(torch.float32).permute(0, 3, 1, 2) - self.mean) * self.scale


class RefinerGraph(nn.Module):
    """The whole graph of a refiner file: uint8 NHWC crops -> keypoints."""

    def __init__(self, network: RefinerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        """Map uint8 (M, H, W, 3) to keypoints (M, 17, 3) x y confidence, in crop pixels."""
        keypoints: Tensor = self.network.decode(self.network(self.network.normalize(crops)))
        return keypoints
