"""The structure of a network, as the `network` part of a recipe states it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Width = Annotated[int, Meta(ge=1, le=8192)]


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run of `repeat` equal blocks; only the first has the stride."""

    kind: Literal["plain", "ghost"]
    hidden: Width
    out: Width
    stride: Literal[1, 2] = 1
    repeat: Annotated[int, Meta(ge=1, le=64)] = 1


class RefinementSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Candidate-region refinement of keypoints inside the graph."""

    iterations: Annotated[int, Meta(ge=0, le=4)] = 1
    radius: Annotated[int, Meta(ge=1, le=8)] = 4
    """Half side of the window in cells of stride 4: 4 means 9 x 9 cells."""


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Ghost-YOLO-pose network, or a refiner: the same network without boxes, for one person in a crop.

    The backbone must halve the map five times; `taps` names the blocks (from 0, after expansion of `repeat`) whose
    outputs go to the neck at strides 4, 8 and 16.
    """

    blocks: list[BlockSpec]
    task: Literal["pose", "refine"] = "pose"
    """`pose` finds all people in a picture, `refine` the keypoints of the person in the middle of a crop."""
    crop_margin: Annotated[float, Meta(ge=1)] = 1.05
    """For a refiner: ratio of the crop's side to the longer side of the person's box."""
    taps: tuple[int, int, int] = (2, 5, 9)
    stem: Width = 48
    context_kind: Literal["plain", "ghost"] = "ghost"
    context: Width = 640
    """Maps of the widest layer, at stride 32."""
    neck_kind: Literal["plain", "ghost"] = "ghost"
    neck: tuple[Width, Width, Width, Width] = (128, 32, 24, 24)
    """Maps at strides 32 and 16, after the fusion at 16, after that at 8, after that at 4."""
    head: Width = 96
    candidates: Annotated[int, Meta(ge=1, le=300)] = 32
    refinement: RefinementSpec = RefinementSpec()

    def expanded(self) -> list[BlockSpec]:
        """Return the blocks one by one."""
        blocks: list[BlockSpec] = []
        for block in self.blocks:
            for index in range(block.repeat):
                blocks.append(BlockSpec(block.kind, block.hidden, block.out, block.stride if index == 0 else 1))
        return blocks


def _movenet(task: Literal["pose", "refine"], stem: int, widths: tuple[int, ...]) -> NetworkSpec:
    """Return the spec of a MoveNet: MobileNetV2's seven stages, whose blocks are six times as wide inside as their input, and a pyramid."""
    blocks = [BlockSpec("plain", stem, widths[0])]
    strides: tuple[Literal[1, 2], ...] = (2, 2, 2, 1, 2, 1)
    repeats = (2, 3, 4, 3, 3, 1)
    for before, width, stride, repeat in zip(widths[:-1], widths[1:], strides, repeats, strict=True):
        blocks.append(BlockSpec("plain", 6 * before, width, stride))
        if repeat > 1:
            blocks.append(BlockSpec("plain", 6 * width, width, 1, repeat - 1))
    return NetworkSpec(
        task=task,
        stem=stem,
        blocks=blocks,
        context_kind="plain",
        context=1280,
        neck_kind="plain",
        neck=(64, 32, 24, 24),
        refinement=RefinementSpec(iterations=1, radius=7),
    )


MOVENET_MULTIPOSE = _movenet("pose", 48, (24, 40, 48, 96, 144, 240, 480))
"""The teacher of `ghost-n` and `ghost-s` (MoveNet MultiPose Lightning), as a special case of this network."""

MOVENET_LIGHTNING = _movenet("refine", 32, (16, 24, 32, 64, 96, 160, 320))
"""MoveNet SinglePose Lightning (192 px), the teacher of `refine-n`, as a special case of this network."""

MOVENET_THUNDER = _movenet("refine", 56, (32, 40, 56, 112, 168, 280, 560))
"""MoveNet SinglePose Thunder (256 px), the teacher of `refine-s`, as a special case of this network."""

TEACHERS = {"MultiPose Lightning": MOVENET_MULTIPOSE, "SinglePose Lightning": MOVENET_LIGHTNING, "SinglePose Thunder": MOVENET_THUNDER}
"""The teachers by name."""
