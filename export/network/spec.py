"""What a network is made of: read from the `network` part of a recipe (`export/recipes/*.yaml`)."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Width = Annotated[int, Meta(ge=1, le=8192)]


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`repeat` blocks of one kind; only the first has the stride."""

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
    """A Ghost-YOLO-pose network, or a refiner, which is the same without boxes and answers for one person a crop.

    The backbone must halve the map five times; `taps` names the blocks (from 0, after expansion of `repeat`) whose
    outputs go to the neck at strides 4, 8 and 16.
    """

    blocks: list[BlockSpec]
    task: Literal["pose", "refine"] = "pose"
    """`pose` finds all people in a picture, `refine` the keypoints of the person in the middle of a crop."""
    crop_margin: Annotated[float, Meta(ge=1)] = 1.05
    """Of a refiner: side of its crop over the longer side of a person's box."""
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
        """The blocks one by one."""
        blocks: list[BlockSpec] = []
        for block in self.blocks:
            for index in range(block.repeat):
                blocks.append(BlockSpec(block.kind, block.hidden, block.out, block.stride if index == 0 else 1))
        return blocks


MOVENET_MULTIPOSE = NetworkSpec(
    blocks=[
        BlockSpec("plain", 48, 24),
        BlockSpec("plain", 144, 40, 2),
        BlockSpec("plain", 240, 40),
        BlockSpec("plain", 240, 48, 2),
        BlockSpec("plain", 288, 48, 1, 2),
        BlockSpec("plain", 288, 96, 2),
        BlockSpec("plain", 576, 96, 1, 3),
        BlockSpec("plain", 576, 144),
        BlockSpec("plain", 864, 144, 1, 2),
        BlockSpec("plain", 864, 240, 2),
        BlockSpec("plain", 1440, 240, 1, 2),
        BlockSpec("plain", 1440, 480),
    ],
    context_kind="plain",
    context=1280,
    neck_kind="plain",
    neck=(64, 32, 24, 24),
    refinement=RefinementSpec(iterations=1, radius=7),
)
"""The teacher (MoveNet MultiPose Lightning) as a special case of our network."""

MOVENET_LIGHTNING = NetworkSpec(
    task="refine",
    stem=32,
    blocks=[
        BlockSpec("plain", 32, 16),
        BlockSpec("plain", 96, 24, 2),
        BlockSpec("plain", 144, 24),
        BlockSpec("plain", 144, 32, 2),
        BlockSpec("plain", 192, 32, 1, 2),
        BlockSpec("plain", 192, 64, 2),
        BlockSpec("plain", 384, 64, 1, 3),
        BlockSpec("plain", 384, 96),
        BlockSpec("plain", 576, 96, 1, 2),
        BlockSpec("plain", 576, 160, 2),
        BlockSpec("plain", 960, 160, 1, 2),
        BlockSpec("plain", 960, 320),
    ],
    context_kind="plain",
    context=1280,
    neck_kind="plain",
    neck=(64, 32, 24, 24),
    refinement=RefinementSpec(iterations=1, radius=7),
)
"""MoveNet SinglePose Lightning (192 px), the teacher of `refine-n`, as a special case of our network."""

MOVENET_THUNDER = NetworkSpec(
    task="refine",
    stem=56,
    blocks=[
        BlockSpec("plain", 56, 32),
        BlockSpec("plain", 192, 40, 2),
        BlockSpec("plain", 240, 40),
        BlockSpec("plain", 240, 56, 2),
        BlockSpec("plain", 336, 56, 1, 2),
        BlockSpec("plain", 336, 112, 2),
        BlockSpec("plain", 672, 112, 1, 3),
        BlockSpec("plain", 672, 168),
        BlockSpec("plain", 1008, 168, 1, 2),
        BlockSpec("plain", 1008, 280, 2),
        BlockSpec("plain", 1680, 280, 1, 2),
        BlockSpec("plain", 1680, 560),
    ],
    context_kind="plain",
    context=1280,
    neck_kind="plain",
    neck=(64, 32, 24, 24),
    refinement=RefinementSpec(iterations=1, radius=7),
)
"""MoveNet SinglePose Thunder (256 px), the teacher of `refine-s`, as a special case of our network."""

TEACHERS = {"MultiPose Lightning": MOVENET_MULTIPOSE, "SinglePose Lightning": MOVENET_LIGHTNING, "SinglePose Thunder": MOVENET_THUNDER}
"""The teachers by name."""
