"""Converts a plain network into a ghost network in closed form, without training.

A plain block (1x1 expand, depthwise, 1x1 project) becomes a ghost bottleneck: the first module keeps the expand filters
of the most important hidden units as intrinsic maps, and the teacher's depthwise kernels on them as ghosts; the second
module is fitted by least squares. Before that, each residual stream, which is linear, is rotated so that its first half
holds most of what the blocks add to it, in the metric of the stream's readers.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn

from edgepose_export.network.ghost import ConvNorm, GhostBottleneck, GhostModule, InvertedResidual
from edgepose_export.network.model import GhostPose
from edgepose_export.network.spec import NetworkSpec
from edgepose_export.network.streams import RIDGE, bias, columns, flat, intrinsic, patches, plain_blocks, rotate, streams


@dataclass(frozen=True)
class GhostifyStep:
    """One fitted part; `error` is the unexplained share of its channel-centered variance, 0 to 1."""

    name: str
    error: float


def ghostify(
    teacher: GhostPose, spec: NetworkSpec, images: Tensor, on_step: Callable[[GhostifyStep], None] = lambda _: None
) -> tuple[GhostPose, GhostPose]:
    """Make a student of `spec` that imitates `teacher` in the least-squares sense.

    Args:
        teacher: plain network whose blocks correspond one to one to those of `spec`, without batch-norms.
        spec: the student; blocks may be ghost, the context layer and the neck too. Ghost laterals need twice the
            teacher's width, so that they start as the teacher's.
        images: float (B, 3, H, W) in -1..1, a few hundred calibration pictures.
        on_step: called with each step's name and error.

    Returns:
        The student, and the teacher with rotated residual streams (the same function), whose features the student's are
        compared with.
    """
    teacher = copy.deepcopy(teacher).eval()
    student = GhostPose(spec).eval()
    ghost = [block.kind == "ghost" for block in spec.expanded()]
    if len(ghost) != len(teacher.backbone.blocks):
        raise ValueError(f"the student has {len(ghost)} blocks, the teacher {len(teacher.backbone.blocks)}: they must correspond")
    with torch.no_grad():
        for stream in streams(teacher):
            if any(ghost[index] for index in stream.producers):
                rotate(teacher, stream, [index for index in stream.producers if ghost[index]], images)
        student.backbone.stem.load_state_dict(teacher.backbone.stem.state_dict())
        ours = _batched(student.backbone.stem, images)
        theirs = ours
        for index, (block, original) in enumerate(zip(student.backbone.blocks, plain_blocks(teacher), strict=True)):
            if isinstance(block, GhostBottleneck):
                target = _batched(original, theirs)
                _fit_bottleneck(block, original, ours, target)
            else:
                block.load_state_dict(original.state_dict())
                target = _batched(original, theirs)
            ours, theirs = _batched(block, ours), target
            if isinstance(block, GhostBottleneck):
                on_step(GhostifyStep(f"block {index}", _error(ours, theirs)))
        _fit_context(student, teacher, ours, theirs)
        on_step(GhostifyStep("context", _error(_batched(_context_of(student), ours), _batched(_context_of(teacher), theirs))))
        _fit_neck(student, teacher)
        student.head.load_state_dict(teacher.head.state_dict())
    return student, teacher


def resize(trained: GhostPose, teacher: GhostPose, spec: NetworkSpec, images: Tensor) -> GhostPose:
    """Widen the widest layer of a trained network and narrow its ghost blocks, with nearly the same function.

    Added filters of the widest layer are the teacher's next most important ones after those that the closed form chose; their
    readers start at zero. Ghost blocks keep the hidden maps that contribute most, and their readers are fitted again.

    Args:
        trained: network with a ghost layer at stride 32.
        teacher: plain network whose streams are aligned with those of `trained`.
        spec: that of `trained`, except for a larger `context` or smaller `hidden` widths of ghost blocks.
        images: float (B, 3, H, W) in -1..1, a few hundred calibration pictures.

    Raises:
        ValueError: the specs differ in anything else.
    """
    blocks = [
        msgspec.structs.replace(new, hidden=old.hidden) if new.kind == "ghost" and new.hidden < old.hidden else new
        for old, new in zip(trained.spec.expanded(), spec.expanded(), strict=False)
    ]
    alike = msgspec.structs.replace(spec, context=trained.spec.context, blocks=blocks)
    if msgspec.structs.replace(trained.spec, blocks=trained.spec.expanded()) != alike or spec.context < trained.spec.context:
        raise ValueError("expected the network of the checkpoint with a larger context, or smaller hidden widths in ghost blocks")
    resized = GhostPose(spec).eval()
    with torch.no_grad():
        ours = trained.state_dict()
        for name, value in resized.state_dict().items():
            if value.shape == ours[name].shape:
                value.copy_(ours[name])
        x = _batched(trained.backbone.stem, images)
        for new, old in zip(resized.backbone.blocks, trained.backbone.blocks, strict=True):
            if isinstance(new, GhostBottleneck) and isinstance(old, GhostBottleneck):
                _narrow(new, old, x)
            x = _batched(old, x)
        _widen_context(resized, trained, teacher, images)
    return resized


def _narrow(block: GhostBottleneck, original: GhostBottleneck, x: Tensor) -> None:
    """Keep the most important hidden maps, each with its ghost, and fit their reader."""
    keep, count = block.expand.primary.conv.out_channels, original.expand.primary.conv.out_channels
    if keep == count:
        return
    if original.down is not None:
        raise ValueError("the hidden maps of a ghost block with a stride cannot be reduced; expected the width of the checkpoint")
    importance = _batched(original.expand, x).std((0, 2, 3)) * flat(original.project.primary.conv.weight).norm(dim=0)
    best = (importance[:count] + importance[count:]).topk(keep).indices.sort().values
    _copy_rows(block.expand.primary, original.expand.primary, best)
    _copy_rows(block.expand.cheap, original.expand.cheap, best)
    goal = _batched(nn.Sequential(original.expand, original.project.primary), x)
    _least_squares(block.project.primary, _batched(block.expand, x), goal)


def _widen_context(resized: GhostPose, trained: GhostPose, teacher: GhostPose, images: Tensor) -> None:
    context, lateral, old = resized.backbone.context, intrinsic(resized.neck.lateral32), trained.backbone.context
    assert isinstance(context, GhostModule)
    assert isinstance(old, GhostModule)
    before, after = old.primary.conv.out_channels, context.primary.conv.out_channels
    if before == after:
        return
    theirs = torch.cat([teacher.backbone.early(part, len(teacher.backbone.blocks))[0] for part in images.split(16)])
    original = intrinsic(teacher.backbone.context)
    added = _context_importance(teacher, theirs).topk(after).indices[before:].sort().values
    _copy_rows(context.primary, original, torch.cat([added[:1].expand(before), added]))
    context.cheap.conv.weight.fill_(1 / 9)
    bias(context.cheap).zero_()
    for new, known in ((context.primary, old.primary), (context.cheap, old.cheap)):
        new.conv.weight[:before] = known.conv.weight
        bias(new)[:before] = bias(known)
    reader = intrinsic(trained.neck.lateral32).conv.weight
    lateral.conv.weight.zero_()  # intrinsic maps first, then their ghosts
    lateral.conv.weight[:, :before], lateral.conv.weight[:, after : after + before] = reader[:, :before], reader[:, before:]


def add_norms(network: GhostPose, images: Tensor, parts: Callable[[str], bool]) -> None:
    """Add batch-norms, calibrated on `images`, to the `ConvNorm`s whose names `parts` accepts; the function does not change."""
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    units = {
        name: module for name, module in network.named_modules() if isinstance(module, ConvNorm) and module.norm is None and parts(name)
    }

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], y: Tensor) -> None:
            sums = (y.mean((0, 2, 3)), y.square().mean((0, 2, 3)))
            old = statistics.get(name)
            statistics[name] = sums if old is None else (old[0] + sums[0], old[1] + sums[1])

        return hook

    for name, unit in units.items():
        handles.append(unit.conv.register_forward_hook(record(name)))
    batches = images.split(16)
    with torch.no_grad():
        for batch in batches:
            network(batch)
    for handle in handles:
        handle.remove()
    for name, unit in units.items():
        mean, square = (value / len(batches) for value in statistics[name])
        unit.add_norm(mean, square - mean.square())


def _fit_bottleneck(block: GhostBottleneck, original: InvertedResidual, ours: Tensor, target: Tensor) -> None:
    """Fit one ghost bottleneck so that it maps the student's input to the teacher's output."""
    keep = block.expand.primary.conv.out_channels
    units = original.depthwise.conv.out_channels
    if original.expand is None or keep > units:
        raise ValueError(
            f"a ghost bottleneck of {2 * keep} hidden maps cannot be cut from a block of {units}; expected at most {2 * units}"
        )
    hidden = _batched(nn.Sequential(original.expand, original.depthwise), ours)
    importance = hidden.std((0, 2, 3)) * flat(original.project.conv.weight).norm(dim=0)
    best = importance.topk(keep).indices.sort().values
    _copy_rows(block.expand.primary, original.expand, best)
    _copy_rows(block.expand.cheap, original.depthwise, best)
    if block.down is not None:  # the strided depthwise takes the teacher's kernels; the ghosts before it are copies
        _identity(block.expand.cheap)
        _copy_rows(block.down, original.depthwise, torch.cat([best, best]))
    features = _batched(block.expand if block.down is None else nn.Sequential(block.expand, block.down), ours)
    _fit_ghost(block.project, features, target - ours if block.shortcut else target)


def _fit_ghost(module: GhostModule, features: Tensor, target: Tensor) -> None:
    """Fit a linear ghost module: intrinsic maps by least squares, ghosts by 3x3 least squares on the intrinsic maps."""
    half = module.primary.conv.out_channels
    _least_squares(module.primary, features, target[:, :half])
    intrinsic = _batched(module.primary, features)
    rest = target[:, half:]
    _fit_depthwise(module.cheap, intrinsic, rest)


def _fit_depthwise(unit: ConvNorm, x: Tensor, target: Tensor) -> None:
    """Fit a depthwise 3x3 convolution with bias by least squares, channel by channel."""
    around = patches(x).double()  # (C, N, 9)
    around = torch.cat([around, torch.ones_like(around[..., :1])], -1)
    goal = columns(target).T.double()[..., None]  # (C, N, 1)
    gram = around.transpose(1, 2) @ around
    ridge = gram.diagonal(dim1=1, dim2=2)[:, :9].mean(1) * RIDGE + 1e-9
    gram[:, :9, :9] += torch.eye(9) * ridge[:, None, None]
    weights = torch.linalg.solve(gram, around.transpose(1, 2) @ goal)[..., 0].float()  # (C, 10)
    unit.conv.weight.copy_(weights[:, :9].reshape(-1, 1, 3, 3))
    bias(unit).copy_(weights[:, 9])


def _fit_context(student: GhostPose, teacher: GhostPose, ours: Tensor, theirs: Tensor) -> None:
    """Fit the wide layer at stride 32 and the lateral convolution after it to the teacher's lateral output."""
    goal = _batched(_context_of(teacher), theirs)
    wide, original = student.backbone.context, intrinsic(teacher.backbone.context)
    primary = intrinsic(wide)
    best = _context_importance(teacher, ours).topk(primary.conv.out_channels).indices.sort().values
    _copy_rows(primary, original, best)
    if isinstance(wide, GhostModule):
        # Ghosts average the neighborhood: the mean around a kept filter's map recovers part of what the removed filters detected.
        wide.cheap.conv.weight.fill_(1 / 9)
        bias(wide.cheap).zero_()
    _least_squares(intrinsic(student.neck.lateral32), _batched(wide, ours), goal)


def _context_importance(teacher: GhostPose, x: Tensor) -> Tensor:
    """Return the contribution of each of the teacher's filters at stride 32 to the lateral map, given the last block's output: (maps,)."""
    reading: Tensor = flat(intrinsic(teacher.neck.lateral32).conv.weight).norm(dim=0)
    return _batched(intrinsic(teacher.backbone.context), x).std((0, 2, 3)) * reading


def _context_of(network: GhostPose) -> nn.Module:
    return nn.Sequential(network.backbone.context, intrinsic(network.neck.lateral32))


def _fit_neck(student: GhostPose, teacher: GhostPose) -> None:
    """Copy the plain parts; put the teacher's maps into the intrinsic half of ghost laterals, and start the ghosts' readers at zero."""
    ours, theirs = student.neck, teacher.neck
    for name in ("lateral8", "lateral4", "smooth8", "smooth4"):
        getattr(ours, name).load_state_dict(getattr(theirs, name).state_dict())
    intrinsic(ours.lateral16).load_state_dict(theirs.lateral16.state_dict())
    for lateral in (ours.lateral32, ours.lateral16):
        if isinstance(lateral, GhostModule):
            lateral.cheap.conv.weight.fill_(1 / 9)
            bias(lateral.cheap).zero_()
    width = theirs.smooth16.depthwise.conv.out_channels
    channels = torch.arange(ours.smooth16.depthwise.conv.out_channels)
    _copy_rows(ours.smooth16.depthwise, theirs.smooth16.depthwise, channels % width)
    bias(ours.smooth16.pointwise).copy_(bias(theirs.smooth16.pointwise))
    ours.smooth16.pointwise.conv.weight.zero_()
    ours.smooth16.pointwise.conv.weight[:, :width].copy_(theirs.smooth16.pointwise.conv.weight)


def _least_squares(unit: ConvNorm, x: Tensor, target: Tensor) -> None:
    """Fit a 1x1 convolution with bias by ridge least squares: `unit(x)` close to `target`."""
    features = columns(x).double()
    goal = columns(target).double()
    mean, center = features.mean(0), goal.mean(0)
    features = features - mean
    gram = features.T @ features
    gram += torch.eye(len(gram), dtype=gram.dtype) * (gram.diagonal().mean() * RIDGE)
    weights = torch.linalg.solve(gram, features.T @ (goal - center)).T
    unit.conv.weight.copy_(weights[..., None, None].float())
    bias(unit).copy_((center - weights @ mean).float())


def _copy_rows(unit: ConvNorm, original: ConvNorm, rows: Tensor) -> None:
    unit.conv.weight.copy_(original.conv.weight[rows])
    bias(unit).copy_(bias(original)[rows])


def _identity(unit: ConvNorm) -> None:
    unit.conv.weight.zero_()
    unit.conv.weight[:, :, 1, 1] = 1.0
    bias(unit).zero_()


def _error(ours: Tensor, theirs: Tensor) -> float:
    """Return the unexplained share of the channel-centered variance, over all channels."""
    variance = (theirs - theirs.mean((0, 2, 3), keepdim=True)).square().mean()
    return float((ours - theirs).square().mean() / variance)


def _batched(module: nn.Module, x: Tensor) -> Tensor:
    return torch.cat([module(part) for part in x.split(16)])
