"""Residual streams of a plain network and the bases in which they are written.

A residual stream is linear: any invertible change of basis that its writers apply and its readers undo leaves the network's
function as it is. Ghost modules make the second half of a stream out of the first, so the basis decides how well they can.
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm, GhostModule, InvertedResidual
from edgepose_export.network.model import GhostPose

RIDGE = 1e-3
"""Weight of the ridge in least squares, relative to the mean diagonal."""

ALIKE = 1e-2
"""Streams that differ by less than this share of their variance are written in one basis; half precision leaves 1e-5."""


@dataclass(frozen=True)
class Stream:
    """A residual stream: the blocks that write it and the 1x1 convolutions that read it."""

    producers: list[int]
    readers: list[nn.Conv2d]


def streams(network: GhostPose) -> list[Stream]:
    """The residual streams of a plain network, in order.

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
        found.append(Stream(run, readers))
    return found


def rotate(network: GhostPose, stream: Stream, ghosts: list[int], images: Tensor) -> None:
    """Change the stream's basis so that its first half holds most of what the blocks `ghosts` add, as its readers see it."""
    added = [_added(network, index, images) for index in ghosts]
    root = _root(stream)
    covariance = torch.stack([_covariance(delta) for delta in added]).sum(0)
    _, basis = torch.linalg.eigh(root @ covariance @ root)
    rotation = basis.flip(1).T @ root  # rows by falling energy
    _turn(network, stream, rotation[_pairing(rotation.float(), added)])


def align(teacher: GhostPose, student: GhostPose, images: Tensor) -> None:
    """Turn the teacher's streams into the bases that an already trained student writes its own in; the function stays.

    `rotate` applies an orthogonal matrix to what the readers see, and which one depends on the calibration pictures and on
    rounding. So it is found again from the features behind the stream's first block, where least is lost: the orthogonal
    matrix that brings the teacher's closest to the student's (P. Schönemann, "A generalized solution of the orthogonal
    Procrustes problem", 1966). Not only streams with ghost blocks are looked at: a student may carry the basis of ghosts that it
    once had. A stream that both write alike was never turned.
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


def _root(stream: Stream) -> Tensor:
    """Square root of the metric in which the stream's readers see it: (C, C), float64."""
    metric = torch.stack([flat(reader.weight).T @ flat(reader.weight) for reader in stream.readers]).sum(0)
    values, vectors = torch.linalg.eigh(metric.double())
    root: Tensor = vectors @ torch.diag(values.clamp_min(values.max() * 1e-4).sqrt()) @ vectors.T
    return root


def _turn(network: GhostPose, stream: Stream, rotation: Tensor) -> None:
    """Write the stream in another basis: its writers apply `rotation` (C, C), its readers undo it."""
    inverse = torch.linalg.inv(rotation)
    blocks = plain_blocks(network)
    for index in stream.producers:
        project = blocks[index].project
        project.conv.weight.copy_((rotation @ flat(project.conv.weight).double())[..., None, None].float())
        bias(project).copy_((rotation @ bias(project).double()).float())
    for reader in stream.readers:
        reader.weight.copy_((flat(reader.weight).double() @ inverse)[..., None, None].float())


def _pairing(rotation: Tensor, added: list[Tensor]) -> Tensor:
    """Order of the rotated channels in which each of the second half lies behind the one that explains it best."""
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
    """What block `index` of a plain network adds to its stream: (B, C, H, W)."""
    return _watched(network, plain_blocks(network)[index].project, images)


def _output(network: GhostPose, index: int, images: Tensor) -> Tensor:
    """The stream behind block `index`: (B, C, H, W)."""
    return _watched(network, network.backbone.blocks[index], images)


def _watched(network: GhostPose, module: nn.Module, images: Tensor) -> Tensor:
    """What a part of the backbone gives for the pictures."""
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
    """The blocks of a plain network.

    Raises:
        ValueError: the network has ghost blocks already.
    """
    blocks = [block for block in network.backbone.blocks if isinstance(block, InvertedResidual)]
    if len(blocks) != len(network.backbone.blocks):
        raise ValueError("the teacher has ghost blocks: only a plain network can be made Ghost")
    return blocks


def intrinsic(layer: nn.Module) -> ConvNorm:
    """The part of a layer that carries the teacher's maps: the layer itself, or the intrinsic half of a ghost module."""
    unit = layer.primary if isinstance(layer, GhostModule) else layer
    assert isinstance(unit, ConvNorm)
    return unit


def bias(unit: ConvNorm) -> Tensor:
    """The bias of a unit's convolution."""
    assert unit.conv.bias is not None
    return unit.conv.bias


def flat(weight: Tensor) -> Tensor:
    """Weights of a 1x1 convolution as a matrix: (O, I, 1, 1) -> (O, I)."""
    return weight[:, :, 0, 0]


def columns(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def patches(x: Tensor) -> Tensor:
    """3x3 neighborhoods: (B, C, H, W) -> (C, B H W, 9)."""
    batch, channels, height, width = x.shape
    unfolded = nn.functional.unfold(x, 3, padding=1).reshape(batch, channels, 9, height * width)
    return unfolded.permute(1, 0, 3, 2).reshape(channels, -1, 9)
