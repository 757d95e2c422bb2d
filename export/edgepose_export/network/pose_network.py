"""The pose network Ghost-YOLO-pose: trunk, neck, head, the best candidates and their refinement, in one graph."""

import copy
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.candidates import best_candidates, take
from edgepose_export.network.cspnext import CspNext
from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.head import KEYPOINTS, PoseHead, PoseMaps
from edgepose_export.network.layers import Activation, ConvNorm
from edgepose_export.network.pafpn import PathAggregation
from edgepose_export.network.region_refinement import RegionRefinement

Width = Annotated[int, Meta(ge=1, le=4096)]

_MEAN = (123.675, 116.28, 103.53)
"""Mean of red, green and blue, 0 to 255."""

DEVIATION = 58.0
"""Unit of the network's input, in gray levels."""

_CONSIDERED = 200
"""Cells that compete to be candidates; with 100 the box AP is 0.02 lower, with 300 it is 0.002 higher at 0.3 ms a picture."""

_NMS_IOU = 0.6
"""The teacher's."""


class PoseSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="task", tag="pose"):
    """The structure of a pose network.

    Attributes:
        widths: maps of the stem and of the four stages.
        blocks: blocks in each stage.
        neck: maps of each level that enters the head.
        keypoint_width: width of the keypoint tower.
        activation: SiLU as the teacher has, or ReLU, which folds into INT8 convolutions.
        early_activation: that of the stem and the first stage, where SiLU takes as long as the convolutions.
        ghost: names of the 1x1 layers that are Ghost modules, such as `trunk.stages.3.csp.join`; at high resolution with few maps they
            save no time.
        candidates: K, best candidates of a picture.
        refinement_width, refinement_hidden, refinements: see `RegionRefinement`.
        maps: maps in and out of the layers by name that have others than these attributes say, as `edgepose-export prune` leaves them.
    """

    widths: tuple[Width, Width, Width, Width, Width] = (16, 32, 64, 128, 256)
    blocks: tuple[Width, Width, Width, Width] = (1, 2, 2, 1)
    neck: Width = 64
    keypoint_width: Width = 64
    activation: Activation = "silu"
    early_activation: Activation = "silu"
    ghost: tuple[str, ...] = ()
    candidates: Annotated[int, Meta(ge=1, le=300)] = 48
    refinement_width: Width = 24
    refinement_hidden: Width = 128
    refinements: Annotated[int, Meta(ge=0, le=4)] = 1
    maps: dict[str, tuple[Width, Width]] = {}


RTMDET_NANO = PoseSpec(refinements=0)
"""RTMDet-nano, the teacher of `ghost-n`, as a special case; its keypoints are the mean pose."""


class PoseNetwork(nn.Module):
    """The network that a `PoseSpec` describes.

    `forward` maps a picture to raw outputs, `decode` maps these to candidates. `PoseGraph` joins both after the model file's uint8 input.

    Raises:
        ConfigError: a name in `spec.ghost` is not that of a 1x1 layer, or one in `spec.maps` not that of a layer.
    """

    def __init__(self, spec: PoseSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.trunk = CspNext(spec.widths, spec.blocks, activation=spec.activation, early_activation=spec.early_activation)
        self.neck = PathAggregation(spec.widths[2:], spec.neck, activation=spec.activation)
        self.head = PoseHead(spec.neck, spec.keypoint_width, activation=spec.activation)
        self.refinement = RegionRefinement(spec.neck, spec.refinement_width, spec.refinement_hidden, spec.refinements)
        for name in spec.ghost:
            plain = dict(self.named_modules()).get(name)
            if not isinstance(plain, ConvNorm) or plain.conv.kernel_size != (1, 1) or plain.conv.out_channels % 2:
                raise ConfigError(f"{name!r} cannot be a Ghost module; expected a 1x1 layer with an even number of maps")
            ghost = GhostModule(plain.conv.in_channels, plain.conv.out_channels, activation=plain.activation)
            self.set_submodule(name, ghost)
        units = dict(self.named_modules())
        for name, (maps_in, maps_out) in spec.maps.items():
            unit = units.get(name)
            if not isinstance(unit, ConvNorm) or (unit.conv.groups > 1 and maps_in != maps_out):
                raise ConfigError(f"{name!r} cannot have {maps_in} maps in and {maps_out} out; expected a layer of the network")
            unit.resize(maps_in, maps_out)
        # The raw score ranks well but is no probability; slope and bias map its logit to one (`edgepose_export.evaluation.score`).
        self.score_slope: Tensor
        self.score_bias: Tensor
        self.register_buffer("score_slope", torch.tensor(1.0))
        self.register_buffer("score_bias", torch.tensor(0.0))

    def forward(self, x: Tensor) -> PoseMaps:
        """Map (B, 3, H, W) RGB by `normalize`, H and W multiples of 32, to raw outputs."""
        maps: PoseMaps = self.head(self.neck(self.trunk(x)))  # called as modules, so that a graph's nodes have their names
        return maps

    def normalize(self, images: Tensor) -> Tensor:
        """Convert uint8 (B, H, W, 3) RGB to float (B, 3, H, W) of mean 0 and deviation 1."""
        return self.centered(images) / DEVIATION

    def centered(self, images: Tensor) -> Tensor:
        """Convert uint8 (B, H, W, 3) RGB to float (B, 3, H, W) of mean 0, in gray levels."""
        # Cast before the transpose: TensorRT refuses to transpose uint8. The mean is not folded into the first convolution, because
        # that pads with zeros, which are the mean here and would be black then.
        return images.to(torch.float32).permute(0, 3, 1, 2) - self.mean

    def levels(self, stride4: Tensor) -> list[Tensor]:
        """Map features at stride 4 to the neck's maps at strides 8, 16 and 32."""
        levels: list[Tensor] = self.neck(self.trunk.late(stride4))
        return levels

    def decode(self, maps: PoseMaps) -> tuple[Tensor, Tensor, Tensor]:
        """Map raw outputs to boxes (B, K, 4) x1 y1 x2 y2, scores (B, K) and keypoints (B, K, 17, 3), in input pixels."""
        logit, cell, boxes = best_candidates(maps, max(_CONSIDERED, self.spec.candidates), self.spec.candidates, _NMS_IOU)
        pose = self.refinement(maps.fine, boxes, take(maps.keypoints, cell))[-1]
        scores = torch.sigmoid(self.score_slope * logit + self.score_bias)
        return boxes, scores, keypoints_of(boxes, pose)


def keypoints_of(boxes: Tensor, pose: Tensor) -> Tensor:
    """Convert poses (B, K, 51) in units of their boxes (B, K, 4) to keypoints (B, K, 17, 3): x y in input pixels, confidence."""
    middle, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    x = middle[..., :1] + size[..., :1] * pose[..., :KEYPOINTS]
    y = middle[..., 1:] + size[..., 1:] * pose[..., KEYPOINTS : 2 * KEYPOINTS]
    return torch.stack([x, y, torch.sigmoid(pose[..., 2 * KEYPOINTS :])], -1)


class PoseGraph(nn.Module):
    """The whole graph of a model file: uint8 NHWC picture -> boxes, scores, keypoints.

    The first convolution takes over the division by the deviation, which is one pass over the whole picture less. The network that is
    given stays as it is.
    """

    def __init__(self, network: PoseNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        first = self.network.trunk.stem[0]
        assert isinstance(first, ConvNorm)
        with torch.no_grad():
            first.conv.weight.div_(DEVIATION)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map uint8 (N, H, W, 3) to boxes (N, K, 4), scores (N, K) and keypoints (N, K, 17, 3), in input pixels."""
        return self.network.decode(self.network(self.network.centered(images)))
