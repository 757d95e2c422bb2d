"""The network Ghost-YOLO-pose (backbone, pyramid, head and candidate-region refinement in one graph) and its checkpoints."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from edgepose.errors import ConfigError
from edgepose_export.network.backbone import Backbone
from edgepose_export.network.candidates import CandidateDecoder, PersonDecoder
from edgepose_export.network.ghost import ConvNorm
from edgepose_export.network.head import PoseHead, PoseMaps
from edgepose_export.network.neck import FeaturePyramid
from edgepose_export.network.refinement import Refinement
from edgepose_export.network.spec import NetworkSpec


class GhostPose(nn.Module):
    """The network that a `NetworkSpec` describes.

    `forward` maps a picture to raw maps, `decode` maps these to candidates or to one person's keypoints. `DeployedPose` and
    `DeployedRefiner` join both after the model file's uint8 input.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = Backbone(spec)
        self.neck = FeaturePyramid(self.backbone.tap_widths(spec), spec.context, spec.neck, spec.neck_kind)
        self.head = PoseHead(spec.neck[3], spec.head, boxes=spec.task == "pose")
        refinement = Refinement(spec.refinement.iterations, spec.refinement.radius)
        self.decode: CandidateDecoder | PersonDecoder = (
            CandidateDecoder(spec.candidates, refinement) if spec.task == "pose" else PersonDecoder(refinement)
        )

    def forward(self, x: Tensor) -> PoseMaps:
        """Map (B, 3, H, W) RGB in -1..1, H and W multiples of 32, to raw maps at stride 4."""
        maps: PoseMaps = self.head(self.neck(*self.backbone(x)))
        return maps

    def fuse(self) -> None:
        """Fold every batch-norm into its convolution."""
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()

    def parameters_count(self) -> int:
        """Return the number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters())


def normalize(images: Tensor) -> Tensor:
    """Convert uint8 (B, H, W, 3) RGB to float (B, 3, H, W) in -1..1, as the model file's graph does."""
    # Cast before the transpose: TensorRT refuses to transpose uint8.
    return images.to(torch.float32).permute(0, 3, 1, 2) / 127.5 - 1.0


class DeployedPose(nn.Module):
    """The whole graph of a model file: uint8 NHWC picture -> boxes, scores, keypoints."""

    def __init__(self, network: GhostPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map uint8 (N, H, W, 3) to boxes (N, K, 4), scores (N, K) and keypoints (N, K, 17, 3), in input pixels."""
        boxes, scores, keypoints = self.network.decode(self.network(normalize(images)))
        return boxes, scores, keypoints


class DeployedRefiner(nn.Module):
    """The whole graph of a refiner file: uint8 NHWC crops -> keypoints."""

    def __init__(self, network: GhostPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        """Map uint8 (M, S, S, 3) to keypoints (M, 17, 3) x y confidence, in crop pixels."""
        keypoints: Tensor = self.network.decode(self.network(normalize(crops)))
        return keypoints


def save_network(path: Path, network: GhostPose, *, half: bool = False, **extra: Any) -> None:
    """Write a checkpoint atomically: the spec, the weights (in half precision if `half`) and `extra`."""
    state = network.state_dict()
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    temporary = path.with_suffix(path.suffix + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"spec": msgspec.to_builtins(network.spec), "state": state, **extra}, temporary)
    temporary.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint: a dictionary with `spec`, `state` and what the writer added.

    Raises:
        ConfigError: the file is missing or is not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigError(f"checkpoint {path} does not exist") from error
    except Exception as error:
        raise ConfigError(f"{path} is not a checkpoint of edgepose-export: torch cannot read it ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or not {"spec", "state"} <= checkpoint.keys():
        raise ConfigError(f"{path} is not a checkpoint of edgepose-export: it holds no `spec` and `state`")
    return checkpoint


def load_network(path: Path) -> GhostPose:
    """Load the network of a checkpoint, with batch-norms where the weights have them.

    Raises:
        ConfigError: the file is missing, is not a checkpoint, or its weights do not fit its spec.
    """
    checkpoint = read_checkpoint(path)
    network = GhostPose(msgspec.convert(checkpoint["spec"], NetworkSpec))
    load_weights(network, checkpoint["state"], str(path))
    return network


def load_deployed(path: Path) -> GhostPose:
    """Load the network of a checkpoint for export: averaged weights where the run kept them, batch-norms folded.

    Raises:
        ConfigError: see `load_network`.
    """
    checkpoint = read_checkpoint(path)
    network = GhostPose(msgspec.convert(checkpoint["spec"], NetworkSpec))
    load_weights(network, checkpoint.get("average", checkpoint["state"]), str(path))
    network.fuse()
    return network.eval()


def load_weights(network: GhostPose, state: dict[str, Tensor], origin: str) -> None:
    """Load weights, giving each `ConvNorm` a batch-norm where the weights have one.

    Raises:
        ConfigError: the weights do not fit.
    """
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm) and f"{name}.norm.weight" in state:
            width = module.conv.out_channels
            module.add_norm(torch.zeros(width), torch.ones(width))
    try:
        network.load_state_dict({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    except RuntimeError as error:
        raise ConfigError(f"the weights of {origin} do not fit its network: {str(error).splitlines()[1].strip()}") from error
