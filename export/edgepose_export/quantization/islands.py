"""The parts of each network that stay float unless somebody chooses, by measurement (docs/models.md, "INT8")."""

from collections.abc import Mapping

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
