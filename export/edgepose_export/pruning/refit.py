"""The layers of a pruned network, fitted by least squares to what they computed in the full one. No label, no gradient.

After Y. He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, with the inputs of the pruned network, so
that a layer makes good what the layers before it lost.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose_export.network.head import STRIDES, PoseMaps
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.pose_network import PoseNetwork

_SAMPLES = 16000
"""Places at which outputs are compared; the widest layer has 512 inputs."""

_RIDGE = 1e-2
"""Share of the inputs' mean square that pulls weights to what they were."""

_SEEN = 0.05
"""Half of the places are taken where the full network scores higher than this: people cover few cells, and background is easy."""


@torch.no_grad()
def refit(full: PoseNetwork, pruned: PoseNetwork, kept: Mapping[str, Tensor], x: Tensor) -> None:
    """Fit all layers of a pruned network but the shared ones, in the order in which they run; changed in place.

    Args:
        full: with batch-norms folded.
        pruned: what `shrink` made of it, or one that lacks some of its layers.
        kept: numbers of the outputs that each layer keeps, by name.
        x: normalized pictures (B, 3, H, W), all at once: each layer is fitted while the network runs on them.
    """
    left = dict(pruned.named_modules())
    units = {name: unit for name, unit in full.named_modules() if isinstance(unit, ConvNorm)}
    names = [name for name in units if name in left]
    places = _Places(full(x), x)
    targets: dict[str, list[Tensor]] = {name: [] for name in names}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def take(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            picture, row, column = places.of(output.shape[2], output.shape[3])
            targets[name].append(output[picture, :, row, column][:, kept[name]])  # (S, C)

        return take

    def fit(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def solve(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(module, nn.Conv2d)
            _fit(module, inputs[0], targets[name][0], places)

        return solve

    _with_hooks(full, x, [_conv(full, name).register_forward_hook(note(name)) for name in names])
    once = [name for name in names if len(targets[name]) == 1]
    _with_hooks(pruned, x, [_conv(pruned, name).register_forward_pre_hook(fit(name)) for name in once])


class _Places:
    """The places at which outputs are compared, the same ones for all maps of one size.

    Args:
        maps: the full network's raw outputs for the pictures.
        x: the pictures.
    """

    def __init__(self, maps: PoseMaps, x: Tensor) -> None:
        height, width = x.shape[2] // STRIDES[0], x.shape[3] // STRIDES[0]
        offset = 0
        self._seen = torch.zeros(len(x), 1, height, width)
        for stride in STRIDES:
            h, w = x.shape[2] // stride, x.shape[3] // stride
            score = torch.sigmoid(maps.score[:, offset : offset + h * w].unflatten(1, (1, h, w)))
            self._seen = torch.maximum(self._seen, F.interpolate(score, (height, width)))
            offset += h * w
        self._chosen: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def of(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return picture, row and column (S,) of each place in maps of a size."""
        if (height, width) not in self._chosen:
            seen = F.adaptive_max_pool2d(self._seen, (min(height, self._seen.shape[2]), min(width, self._seen.shape[3])))
            flat = F.interpolate(seen, (height, width)).flatten()
            order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
            seen_first = order[(flat[order] > _SEEN)][: _SAMPLES // 2]
            index = torch.cat([seen_first, order[: _SAMPLES - len(seen_first)]])
            cells = height * width
            self._chosen[height, width] = (index // cells, index % cells // width, index % width)
        return self._chosen[height, width]


def _fit(conv: nn.Conv2d, x: Tensor, target: Tensor, places: _Places) -> None:
    """Fit weights and bias so that the outputs at the chosen places (S, C) come close to `target`, near the weights that there are."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    picture, row, column = places.of(-(-x.shape[2] // stride), -(-x.shape[3] // stride))
    padded = F.pad(x, [kernel // 2] * 4)
    steps = torch.arange(kernel)
    rows = (row * stride)[:, None, None] + steps[:, None]  # (S, k, 1)
    columns = (column * stride)[:, None, None] + steps  # (S, 1, k)
    patches = padded[picture[:, None, None], :, rows, columns].permute(0, 3, 1, 2).flatten(2)  # (S, C, k k)
    assert conv.bias is not None
    if conv.groups > 1:  # each map on its own
        patches = patches.transpose(0, 1)  # (C, S, k k)
        weights = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1)[:, None]  # (C, 1, k k + 1)
        change = _solve(patches, weights, target.t()[..., None])[:, 0]
    else:
        if len(patches) < 4 * patches[0].numel():  # an attention's means: too few to fit
            return
        weights = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1)[None]  # (1, C', C k k + 1)
        change = _solve(patches.flatten(1)[None], weights, target[None])[0]
    conv.weight += change[:, :-1].reshape(conv.weight.shape)
    conv.bias += change[:, -1]


def _solve(samples: Tensor, weights: Tensor, target: Tensor) -> Tensor:
    """Return the changes (G, O, I + 1) of weights and biases with which samples (G, S, I) come closest to targets (G, S, O)."""
    samples = torch.cat([samples, torch.ones(*samples.shape[:2], 1)], 2)
    missing = target - samples @ weights.transpose(1, 2)  # (G, S, O)
    gram = (samples.transpose(1, 2) @ samples).double() / samples.shape[1]
    level = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp_min(1e-12)
    gram += _RIDGE * level * torch.eye(gram.shape[1], dtype=gram.dtype)
    change: Tensor = torch.linalg.solve(gram, (samples.transpose(1, 2) @ missing).double() / samples.shape[1])
    return change.transpose(1, 2).float()


def _with_hooks(network: PoseNetwork, x: Tensor, handles: list[torch.utils.hooks.RemovableHandle]) -> None:
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()


def _conv(network: PoseNetwork, name: str) -> nn.Conv2d:
    unit = network.get_submodule(name)
    assert isinstance(unit, ConvNorm)
    return unit.conv
