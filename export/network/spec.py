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
    """A Ghost-YOLO-pose network.

    The backbone must halve the map five times; `taps` names the blocks (from 0, after expansion of `repeat`) whose
    outputs go to the neck at strides 4, 8 and 16.
    """

    blocks: list[BlockSpec]
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
