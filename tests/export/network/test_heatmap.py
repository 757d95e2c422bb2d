"""Decoding of heat maps: where the peak of a drawn Gaussian is found."""

import pytest
import torch
from torch import Tensor

from edgepose_export.network.heatmap import KEYPOINTS, HeatMapDecoder

HEIGHT, WIDTH = 32, 24


def drawn(places_px: Tensor, height: float = 0.8, sigma: float = 1.5) -> Tensor:
    """Return Gaussians around places (B, 17, 2) in crop pixels: (B, 17, h, w)."""
    x = torch.arange(WIDTH) - places_px[..., :1] / 4
    y = torch.arange(HEIGHT) - places_px[..., 1:] / 4
    return height * torch.exp(-(y[..., :, None].square() + x[..., None, :].square()) / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0])
def test_a_gaussian_is_found_to_a_tenth_of_a_pixel(sigma: float) -> None:
    torch.manual_seed(0)
    places = 10 + torch.rand(3, KEYPOINTS, 2) * (torch.tensor([WIDTH, HEIGHT]) * 4 - 20)
    found = HeatMapDecoder(HEIGHT, WIDTH)(drawn(places, sigma=sigma))
    assert (found[..., :2] - places).abs().max() < 0.1
    assert (found[..., 2] - 0.8).abs().max() < 0.2  # the largest cell is up to half a cell from the top


def test_a_peak_at_the_border_is_its_cell() -> None:
    heat = torch.zeros(1, KEYPOINTS, HEIGHT, WIDTH)
    heat[:, :, 0, 5] = 0.5
    heat[:, 1:, HEIGHT - 1, WIDTH - 1] = 0.6
    found = HeatMapDecoder(HEIGHT, WIDTH)(heat)[0]
    assert found[0].tolist() == pytest.approx([20, 0, 0.5])
    assert found[3].tolist() == pytest.approx([4 * (WIDTH - 1), 4 * (HEIGHT - 1), 0.6])


@pytest.mark.parametrize("value", [-0.3, 0.0, 1.5])
def test_flat_maps_give_finite_numbers(value: float) -> None:
    found = HeatMapDecoder(HEIGHT, WIDTH)(torch.full((2, KEYPOINTS, HEIGHT, WIDTH), value))
    assert torch.isfinite(found).all()
    assert ((found[..., 2] >= 0) & (found[..., 2] <= 1)).all()


def test_confidence_is_the_height_of_the_peak_until_it_is_calibrated() -> None:
    decoder = HeatMapDecoder(HEIGHT, WIDTH)
    peak = torch.linspace(0.01, 0.99, KEYPOINTS)[None]
    assert torch.allclose(decoder.confidence(peak), peak, atol=1e-6)
    decoder.confidence_slope.fill_(2.0)
    decoder.confidence_bias[3] = 1.0
    calibrated = decoder.confidence(peak)
    assert calibrated[0, 3] == pytest.approx(torch.sigmoid(2 * torch.logit(peak[0, 3]) + 1).item())
    assert (calibrated[0, [0, 16]] - torch.sigmoid(2 * torch.logit(peak[0, [0, 16]]))).abs().max() < 1e-6
