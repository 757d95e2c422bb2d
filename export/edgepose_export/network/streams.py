"""Residual streams of a plain network, and their bases.

A residual stream is linear: an invertible change of basis that its writers apply and its readers undo does not change the
network's function. Ghost modules compute the second half of a stream from the first, so the basis decides how well they can.
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm, GhostModule, InvertedResidual
from edgepose_export.network.model import GhostPose

RIDGE = 1e-3
"""Weight of the ridge in least squares, relative to the mean of the diagonal."""

ALIKE = 1e-2
"""Streams that differ by less than this share of their variance have the same basis; half precision leaves 1e-5."""


@dataclass(frozen=True)
class ResidualStream:
    """A residual stream: the blocks that write it and the 1x1 convolutions that read it."""

    producers: list[int]
    readers: list[nn.Conv2d]


def streams(network: GhostPose) -> list[ResidualStream]:
    """Return the residual streams of a plain network, in order.

    Raises:
        ValueError: the network has ghost blocks already.
    """
    blocks = plain_blocks(network)
    runs: list[list[int]] = []
    for index, block in enumerate(blocks):
        if block.shortcut and runs:
            runs[-1].append(index)
        else:
            runs.append([index])
    found = []
    for run in runs:
        following = blocks[run[0] + 1 : run[-1] + 2]
        readers = [block.expand.conv for block in following if block.expand is not None]
        if run[-1] == len(blocks) - 1:
            readers.append(intrinsic(network.backbone.context).conv)
        for tap, lateral in zip(network.backbone.taps, (network.neck.lateral4, network.neck.lateral8, network.neck.lateral16), strict=True):
            if tap in run:
                readers.append(intrinsic(lateral).conv)
        found.append(ResidualStream(run, readers))
    return found


def rotate(network: GhostPose, stream: ResidualStream, ghosts: list[int], images: Tensor) -> None:
    """Change a stream's basis so that its first half holds most of what the blocks `ghosts` add, in the readers' metric."""
    added = [_added(network, index, images) for index in ghosts]
    root = _root(stream)
    covariance = torch.stack([_covariance(delta) for delta in added]).sum(0)
    _, basis = torch.linalg.eigh(root @ covariance @ root)
    rotation = basis.flip(1).T @ root  # rows by falling energy
    _turn(network, stream, rotation[_pairing(rotation.float(), added)])


def align(teacher: GhostPose, student: GhostPose, images: Tensor) -> None:
    """Rotate the teacher's streams into the bases of a trained student; the function does not change.

    `rotate` applies an orthogonal matrix in the readers' metric that depends on the calibration pictures and on rounding. This
    function recovers it from the features after the stream's first block, where the least is lost: the orthogonal matrix that
    brings the teacher's features closest to the student's (P. Schönemann, "A generalized solution of the orthogonal Procrustes
    problem", 1966). It checks streams without ghost blocks too, because a student keeps the basis of ghosts that it once had. A
    stream that is equal in both networks was never rotated.
    """
    for stream in streams(teacher):
        first = stream.producers[0]
        theirs, ours = (columns(_output(network, first, images)).double() for network in (teacher, student))
        theirs, ours = theirs - theirs.mean(0), ours - ours.mean(0)
        if (ours - theirs).square().sum() < ALIKE * theirs.square().sum():
            continue
        root = _root(stream)
        cross = ours.T @ theirs @ root
        left, _, right = torch.linalg.svd(cross)
        _turn(teacher, stream, left @ right @ root)


def _root(stream: ResidualStream) -> Tensor:
    """Return the square root of the metric of the stream's readers: (C, C), float64."""
    metric = torch.stack([flat(reader.weight).T @ flat(reader.weight) for reader in stream.readers]).sum(0)
    values, vectors = torch.linalg.eigh(metric.double())
    root: Tensor = vectors @ torch.diag(values.clamp_min(values.max() * 1e-4).sqrt()) @ vectors.T
    return root


def _turn(network: GhostPose, stream: ResidualStream, rotation: Tensor) -> None:
    """Change the basis of a stream: its writers apply `rotation` (C, C), its readers undo it."""
    inverse = torch.linalg.inv(rotation)
    blocks = plain_blocks(network)
    for index in stream.producers:
        project = blocks[index].project
        project.conv.weight.copy_((rotation @ flat(project.conv.weight).double())[..., None, None].float())
        bias(project).copy_((rotation @ bias(project).double()).float())
    for reader in stream.readers:
        reader.weight.copy_((flat(reader.weight).double() @ inverse)[..., None, None].float())


def _pairing(rotation: Tensor, added: list[Tensor]) -> Tensor:
    """Return an order of the rotated channels that pairs each of the second half with the one of the first that explains it best."""
    half = len(rotation) // 2
    explained = torch.zeros(half, half, dtype=torch.float64)
    for delta in added:
        turned = torch.einsum("ij,bjhw->bihw", rotation, delta[:64])
        around = patches(turned[:, :half]).double()  # (half, N, 9)
        goal = columns(turned[:, half:]).double()  # (N, half)
        gram = around.transpose(1, 2) @ around
        gram += torch.eye(9) * (gram.diagonal(dim1=1, dim2=2).mean(1) * RIDGE + 1e-9)[:, None, None]
        cross = around.transpose(1, 2) @ goal  # (half, 9, half)
        explained += (cross * torch.linalg.solve(gram, cross)).sum(1)
    _, partner = linear_sum_assignment(-explained.numpy())
    return torch.cat([torch.arange(half), half + torch.as_tensor(partner)])


def _added(network: GhostPose, index: int, images: Tensor) -> Tensor:
    """Return what block `index` of a plain network adds to its stream: (B, C, H, W)."""
    return _outputs_of(network, plain_blocks(network)[index].project, images)


def _output(network: GhostPose, index: int, images: Tensor) -> Tensor:
    """Return the stream after block `index`: (B, C, H, W)."""
    return _outputs_of(network, network.backbone.blocks[index], images)


def _outputs_of(network: GhostPose, module: nn.Module, images: Tensor) -> Tensor:
    """Return the output of a part of the backbone for all pictures."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, __, y: outputs.append(y))
    try:
        for batch in images.split(16):
            network.backbone(batch)
    finally:
        handle.remove()
    return torch.cat(outputs)


def _covariance(x: Tensor) -> Tensor:
    values = columns(x).double()
    values = values - values.mean(0)
    return values.T @ values / len(values)


def plain_blocks(network: GhostPose) -> list[InvertedResidual]:
    """Return the blocks of a plain network.

    Raises:
        ValueError: the network has ghost blocks already.
    """
    blocks = [block for block in network.backbone.blocks if isinstance(block, InvertedResidual)]
    if len(blocks) != len(network.backbone.blocks):
        raise ValueError("the teacher has ghost blocks; expected a plain network")
    return blocks


def intrinsic(layer: nn.Module) -> ConvNorm:
    """Return the part of a layer with the teacher's maps: the layer itself, or the intrinsic half of a ghost module."""
    unit = layer.primary if isinstance(layer, GhostModule) else layer
    assert isinstance(unit, ConvNorm)
    return unit


def bias(unit: ConvNorm) -> Tensor:
    """Return the bias of a unit's convolution."""
    assert unit.conv.bias is not None
    return unit.conv.bias


def flat(weight: Tensor) -> Tensor:
    """Return the weights of a 1x1 convolution as a matrix: (O, I, 1, 1) -> (O, I)."""
    return weight[:, :, 0, 0]


def columns(x: Tensor) -> Tensor:
    """Reshape (B, C, H, W) to (B H W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def patches(x: Tensor) -> Tensor:
    """Return the 3x3 neighborhoods: (B, C, H, W) -> (C, B H W, 9)."""
    batch, channels, height, width = x.shape
    unfolded = nn.functional.unfold(x, 3, padding=1).reshape(batch, channels, 9, height * width)
    return unfolded.permute(1, 0, 3, 2).reshape(channels, -1, 9)
