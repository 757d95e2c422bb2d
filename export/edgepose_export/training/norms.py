"""Batch-norms for a network that has none, such as a shipped one, whose batch-norms are folded into its convolutions."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from edgepose_export.callbacks import Progress
from edgepose_export.data.augment import Augmentation, paint
from edgepose_export.data.coco import CocoPose
from edgepose_export.data.crops import plans_for
from edgepose_export.network.checkpoint import Network
from edgepose_export.network.layers import ConvNorm, add_norms
from edgepose_export.network.pose_network import PoseSpec

_BATCH = 16


def plain_batches(network: Network, data: CocoPose, count: int, size: int, progress: Progress = lambda done, total: None) -> list[Tensor]:
    """Return normalized batches of evenly chosen pictures without augmentation.

    Args:
        network: decides between letterboxed pictures and a refiner's crops.
        data: labeled pictures.
        count: of pictures.
        size: side of the letterboxed pictures in pixels.
        progress: called after each picture.
    """
    rng = np.random.default_rng(0)
    plans = plans_for(network.spec, data)
    canvas = size if isinstance(network.spec, PoseSpec) else (network.spec.crop_height, network.spec.crop_width)
    chosen = np.linspace(0, len(plans) - 1, min(count, len(plans))).astype(int)
    pictures = []
    for done, index in enumerate(chosen, 1):
        pictures.append(paint(data, plans.plan(int(index), canvas, Augmentation.none(), rng), canvas))
        progress(done, len(chosen))
    return list(network.normalize(torch.from_numpy(np.stack(pictures))).split(_BATCH))


def has_norms(network: Network) -> bool:
    """Return whether a convolution of the network has a batch-norm."""
    return any(isinstance(module, ConvNorm) and module.norm is not None for module in network.modules())


def norm_scales(network: Network, rms: Mapping[str, float]) -> Tensor:
    """Return the sum of the absolute scales in all trained batch-norms, each over its layer's root mean square at the start.

    Args:
        network: in training.
        rms: root mean square of each trained tensor at the beginning of the phase, by name.
    """
    scales = [
        unit.norm.weight.abs().sum() / max(rms[f"{name}.norm.weight"], 1e-6)
        for name, unit in network.named_modules()
        if isinstance(unit, ConvNorm) and unit.norm is not None and f"{name}.norm.weight" in rms
    ]
    return torch.stack(scales).sum()


def calibrate_norms(network: Network, batches: Sequence[Tensor], progress: Progress = lambda done, total: None) -> None:
    """Give each convolution without a batch-norm one, with the statistics of these pictures; the function stays.

    Args:
        network: changed in place.
        batches: as of `plain_batches`.
        progress: called after each batch.
    """

    def run() -> None:
        progress(0, len(batches))
        for done, x in enumerate(batches, 1):
            network(x)
            progress(done, len(batches))

    network.eval()
    add_norms(network, run)
    network.eval()  # the new norms too
