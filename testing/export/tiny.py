"""A Ghost-YOLO-pose network small enough for tests that train and export it in seconds."""

import msgspec
import torch

from edgepose_export.network.model import GhostPose
from edgepose_export.network.spec import BlockSpec, NetworkSpec, RefinementSpec

TINY = NetworkSpec(
    stem=8,
    blocks=[
        BlockSpec("plain", 16, 8, 2),
        BlockSpec("plain", 16, 12, 2),
        BlockSpec("ghost", 32, 16, 2),
        BlockSpec("ghost", 32, 16),
        BlockSpec("ghost", 48, 24, 2),
        BlockSpec("ghost", 48, 24),
    ],
    taps=(0, 1, 3),
    context=32,
    neck=(16, 8, 8, 8),
    head=16,
    candidates=12,
    refinement=RefinementSpec(2, 2),
)

TINY_REFINER = msgspec.structs.replace(TINY, task="refine", crop_margin=1.25)


def lively(seed: int = 0, spec: NetworkSpec = TINY) -> GhostPose:
    """Return a tiny network whose weights keep the signal up, so that its maps have peaks."""
    torch.manual_seed(seed)
    network = GhostPose(spec).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            if ".out." in name:
                parameter.data *= 0.1  # scores that do not all saturate at 1
    return network
