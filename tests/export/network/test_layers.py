"""Convolutions with batch-norms that come and go without changing the function."""

import pytest
import torch
from torch import nn

from edgepose_export.network.layers import Activation, ConvNorm, SeparableConv, add_norms, count_multiply_adds, fuse, multiply_adds_by_layer


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", ["silu", "relu", "none"])
def test_adding_and_fusing_a_norm_keeps_the_function(stride: int, activation: Activation) -> None:
    unit = ConvNorm(6, 10, 3, stride=stride, activation=activation).eval()
    x = torch.randn(4, 6, 16, 16)
    with torch.no_grad():
        before = unit(x)
        raw = unit.linear(x)
        unit.add_norm(raw.mean((0, 2, 3)), raw.var((0, 2, 3), unbiased=False))
        unit.eval()
        assert torch.allclose(unit(x), before, atol=1e-5)
        unit.fuse()
        assert unit.norm is None
        assert torch.allclose(unit(x), before, atol=1e-5)


def test_added_norms_have_the_statistics_of_the_pictures() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SeparableConv(3, 8), SeparableConv(8, 8, 5, stride=2)).eval()
    batches = torch.randn(3, 4, 3, 16, 16)
    with torch.no_grad():
        before = network(batches[0])

    def run() -> None:
        for x in batches:
            network(x)

    add_norms(network, run)
    units = [module for module in network.modules() if isinstance(module, ConvNorm)]
    assert all(unit.norm is not None for unit in units)
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network(batches[0]), before, atol=1e-5)
        norm = units[0].norm
        assert norm is not None
        assert norm.running_mean is not None
        raw = units[0].conv(batches.flatten(0, 1))
        assert torch.allclose(norm.running_mean, raw.mean((0, 2, 3)), atol=1e-5)
        fuse(network)
        assert torch.allclose(network(batches[0]), before, atol=1e-5)
    assert all(unit.norm is None for unit in units)


def test_multiply_adds_are_counted_by_layer() -> None:
    network = nn.Sequential(ConvNorm(3, 8, 3, stride=2), SeparableConv(8, 16))
    counts = multiply_adds_by_layer(network, torch.zeros(1, 3, 32, 48))
    assert counts == {"0.conv": 8 * 16 * 24 * 27, "1.depthwise.conv": 8 * 16 * 24 * 9, "1.pointwise.conv": 16 * 16 * 24 * 8}
    assert count_multiply_adds(network, torch.zeros(1, 3, 32, 48)) == sum(counts.values())


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="'relu6' is unknown; accepted: silu, relu, none"):
        ConvNorm(3, 4, activation="relu6")  # type: ignore[arg-type]
