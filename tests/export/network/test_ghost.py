"""Ghost modules against the paper's equations."""

import pytest
import torch

from edgepose_export.network.ghost import GhostBottleneck, GhostModule, ghost_speed_up
from edgepose_export.network.layers import ConvNorm, count_multiply_adds


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "kernel", "ratio", "cheap_kernel"),
    [(64, 128, 1, 2, 3), (32, 64, 3, 2, 3), (48, 96, 3, 4, 3), (96, 96, 5, 3, 5), (16, 32, 1, 2, 5)],
)
def test_counted_multiply_adds_are_those_of_equation_3(
    channels_in: int, channels_out: int, kernel: int, ratio: int, cheap_kernel: int
) -> None:
    x = torch.zeros(1, channels_in, 12, 20)
    ghost = GhostModule(channels_in, channels_out, kernel=kernel, ratio=ratio, cheap_kernel=cheap_kernel)
    ordinary = ConvNorm(channels_in, channels_out, kernel)
    counted = count_multiply_adds(ordinary, x) / count_multiply_adds(ghost, x)
    assert counted == pytest.approx(ghost_speed_up(channels_in, ratio, kernel, cheap_kernel), rel=1e-12)


def test_the_speed_up_tends_to_the_ratio_for_wide_layers() -> None:
    assert ghost_speed_up(10_000, 2, 3, 3) == pytest.approx(2, rel=1e-3)
    assert ghost_speed_up(512, 4, 3, 3) == pytest.approx(4 * 512 / (512 + 3), rel=1e-12)  # s c / (c + s - 1) where d = k


def test_ghosts_are_depthwise_images_of_the_intrinsic_maps() -> None:
    module = GhostModule(3, 8, activation="none")
    x = torch.randn(2, 3, 9, 7)
    y = module(x)
    assert torch.equal(y[:, :4], module.primary(x))
    changed = x.clone()
    intrinsic = module.primary(changed)
    intrinsic[:, 1] += 1.0
    difference = (module.cheap(intrinsic) - y[:, 4:]).abs().amax((0, 2, 3))
    assert difference[1] > 0
    assert difference[[0, 2, 3]].max() == 0


@pytest.mark.parametrize("ratio", [1, 3])
def test_a_ratio_that_does_not_divide_is_refused(ratio: int) -> None:
    with pytest.raises(ValueError, match="ratio must be"):
        GhostModule(8, 8, ratio=ratio)


@pytest.mark.parametrize(("channels_out", "stride", "shape"), [(16, 1, (2, 16, 10, 14)), (24, 1, (2, 24, 10, 14)), (16, 2, (2, 16, 5, 7))])
def test_shapes(channels_out: int, stride: int, shape: tuple[int, ...]) -> None:
    assert tuple(GhostBottleneck(16, 32, channels_out, stride=stride)(torch.randn(2, 16, 10, 14)).shape) == shape


def test_the_shortcut_carries_the_input_around_both_modules() -> None:
    block = GhostBottleneck(8, 16, 8)
    for parameter in block.project.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(block(x), x)
