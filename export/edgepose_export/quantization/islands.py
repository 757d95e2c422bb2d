"""The parts of each network that stay float unless somebody chooses, by measurement (docs/models.md, "INT8")."""

from collections.abc import Iterable, Mapping, Sequence

from edgepose.model.file import Task

FLOAT_PLACES: Mapping[Task, tuple[str, ...]] = {
    # SiLU has no INT8 kernel, so every convolution is an island of integers between a QuantizeLinear and a DequantizeLinear. That pays
    # where a 1x1 convolution is wide: in stages 2 and 3 and in the neck. Elsewhere it costs both time and precision: the stem and
    # stage 0 (few maps, high resolution), all depthwise convolutions (no faster in INT8), the pooled vector of attention, which
    # multiplies a whole channel, and the heads, whose logits and distances need more than 256 steps.
    "pose": ("trunk.stem", "trunk.stages.0", "trunk.stages.1", "**.depthwise", "**.cheap", "**.attention", "head"),
    # The two coarse branches are wide and lose nothing. The stem and the fine branches carry the position of each joint; their few
    # channels at high resolution are slower in INT8. A fusion is mostly enlargements and sums, which are float kernels.
    "refine": (
        "trunk.stem",
        "trunk.transitions.0",
        "trunk.transitions.1",
        "trunk.stages.0",
        "trunk.stages.*.*.branches.0",
        "trunk.stages.*.*.branches.1",
        "trunk.stages.*.*.fusion",
        "trunk.aggregation",
        "heat",
    ),
}


TENSORRT_FLOAT_PLACES: Mapping[Task, tuple[str, ...]] = {
    # A GPU is fast in INT8 where convolutions are dense, SiLU or not: it stays in the kernel. Depthwise convolutions are padded to many
    # channels and slower in INT8 than in half precision, and they lose the most. The first convolution reads pixels, the last ones of
    # the heads write logits, distances and features of joints.
    "pose": ("trunk.stem.0", "**.depthwise", "**.cheap", "**.attention", "head.levels.*.score", "head.levels.*.box", "head.keypoints.out"),
    # The stem reads pixels and the last convolution writes the heat maps. The rest is INT8 as a whole: what is mixed inside of a module
    # (depthwise convolutions in float) loses more.
    "refine": ("trunk.stem", "heat"),
}
"""The same for TensorRT: at most 15 % of the multiply-adds."""


def name_lies_in(name: str, places: Iterable[str]) -> bool:
    """Return whether a module lies in one of `places`, such as `trunk.stem`, `head.levels.*.score` or `**.depthwise`.

    `*` stands for one part of a name, `**` for any number of parts.
    """
    parts = name.split(".")
    return any(_begins(parts, wanted.split(".")) for wanted in places)


def _begins(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_begins(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and pattern[0] in ("*", parts[0]) and _begins(parts[1:], pattern[1:])
