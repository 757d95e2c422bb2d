"""A Ghost-YOLO-pose network small enough for tests that train and export it in seconds."""

from export.network.spec import BlockSpec, NetworkSpec, RefinementSpec

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
