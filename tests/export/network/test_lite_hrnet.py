"""The trunk of the refiners against the textbook's form of its parts."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgepose_export.network.ghost import GhostModule
from edgepose_export.network.layers import ConvNorm
from edgepose_export.network.lite_hrnet import Fusion, LiteHRNet, ShuffleUnit, shuffled


def textbook_shuffle(x: Tensor) -> Tensor:
    count, channels, height, width = x.shape
    return x.reshape(count, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


@torch.no_grad()
def test_two_units_equal_those_that_shuffle_afterwards() -> None:
    first, second = ShuffleUnit(12, False), ShuffleUnit(12, False)
    x = torch.randn(2, 12, 5, 4)

    def textbook(unit: ShuffleUnit, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        return textbook_shuffle(torch.cat([kept, unit.project(unit.depthwise(unit.widen(changed)))], 1))

    expected = textbook(second, textbook(first, textbook_shuffle(x)))
    assert torch.equal(textbook_shuffle(second(first(x))), expected)


def test_the_order_of_a_shuffle_is_that_of_its_reshapes() -> None:
    x = torch.arange(10.0).reshape(1, 10, 1, 1)
    assert torch.equal(textbook_shuffle(x).flatten(), x.flatten()[shuffled(10)])


@torch.no_grad()
def test_a_fusion_equals_the_original_which_adds_in_place() -> None:
    widths = (8, 16, 24)
    fusion = Fusion(widths)
    branches = [torch.randn(2, width, 16 >> number, 8 >> number) for number, width in enumerate(widths)]

    def path(target: int, source: int, x: Tensor) -> Tensor:
        if source < target:
            down: Tensor = fusion.downs[f"{target}_{source}"](x)
            return down
        return F.interpolate(fusion.ups[f"{target}_{source}"](x), scale_factor=2 ** (source - target), mode="nearest")

    # `LiteHRModule.forward` of PaddleDetection and MMPose, with its additions in place.
    out, expected = [x.clone() for x in branches], []
    for i in range(3):
        y = out[0] if i == 0 else path(i, 0, out[0])
        for j in range(3):
            if j == 0:
                y += y
            elif i == j:
                y += out[j]
            else:
                y += path(i, j, out[j])
        expected.append(F.relu(y))
    for i in (1, 2):  # our paths down from the finest branch hold the factor of 2
        last = [unit for unit in fusion.downs[f"{i}_0"].modules() if isinstance(unit, ConvNorm)][-1]
        last.conv.weight *= 2
        assert last.conv.bias is not None
        last.conv.bias *= 2
    for found, target in zip(fusion(branches), expected, strict=True):
        assert torch.allclose(found, target, atol=1e-5)


@pytest.mark.parametrize("ghost", [(), (2, 3)])
def test_heat_maps_lie_at_a_quarter_of_the_crop(ghost: tuple[int, ...]) -> None:
    trunk = LiteHRNet(8, (8, 16, 24, 32), (1, 2, 1), 2, ghost)
    assert trunk(torch.randn(2, 3, 64, 32)).shape == (2, 8, 16, 8)
    assert sum(isinstance(module, GhostModule) for module in trunk.modules()) == (0 if not ghost else 2 * 2 * (2 + 1 + 1))
